"""The Dask executor: a stage's tasks on worker processes, of this machine or of a cluster.

Dask may run a task twice; tasks write the same bytes again and their record last, so that does no harm.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.executor import Executor, Outcome
from stillroom.stages.run.shutdown import StopRequest
from stillroom.stages.run.stage import Advance, Stage, Task
from stillroom.storage.errors import StillroomError

from .cluster import Fleet, open_fleet
from .wave import Wave
from .worker import StageOnWorker


class Dask(Executor):
    """Tasks on a Dask cluster, which is opened for the first of them.

    Args:
        where: "local", "cuda", "slurm", or the address of a scheduler; see `open_fleet`.
        workers: how many, where they are ours; None: as many as suit.
        stop: whether we were asked to stop.
        crew: told how many workers there are, whenever that changes.
    """

    def __init__(
        self,
        where: str,
        workers: int | None = None,
        stop: StopRequest | None = None,
        crew: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._where, self._workers = where, workers
        self._stop = stop or StopRequest()
        self._crew = crew
        self._fleet: Fleet | None = None
        self._tokens: dict[tuple[str, Config, bool], str] = {}

    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance, *, again: bool = False
    ) -> Iterator[tuple[Task, Outcome]]:
        self._fleet = self._fleet or open_fleet(self._where, self._workers, config, stage.name)
        token = self._told(self._fleet, stage, config, again)
        yield from Wave(self._fleet, token, stage.name, tasks, advance, self._stop, self._crew).run()

    def close(self) -> None:
        if self._fleet is None:
            return
        try:
            if self._fleet.cluster is None:  # others' workers stay, without what they built for us
                for token in self._tokens.values():
                    self._fleet.withdraw(token)
        finally:
            self._fleet.close()

    def _told(self, fleet: Fleet, stage: Stage, config: Config, again: bool) -> str:
        """Give every worker a stage and its config, once for all waves; the token that names them."""
        key = stage.name, config, again
        if key not in self._tokens:
            token = f"stillroom-{stage.name}-{secrets.token_hex(8)}"
            plugin = StageOnWorker(token, stage.name, config, again, fleet.threads, fleet.lifetime, fleet.here)
            try:
                fleet.client.register_plugin(plugin, name=token)
            except ImportError as error:
                raise StillroomError(f"workers cannot import what they are to run ({fleet.about}): {error}") from error
            self._tokens[key] = token
        return self._tokens[key]
