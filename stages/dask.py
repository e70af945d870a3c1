"""The Dask executor: tasks as futures on worker processes, of this machine or of a running cluster.

Dask may run a task twice; tasks write the same bytes again and their record last, so that does no harm.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import distributed

from ..pipeline.config import Config
from ..storage.errors import ConfigError, StillroomError
from .executors import Executor
from .stage import Advance, Stage, Task

_RETRIES = 2


class Dask(Executor):
    """Tasks on a Dask cluster.

    Args:
        scheduler: address of a running scheduler, or "local" for worker processes on this machine.
        workers: how many, where they are local.

    Raises:
        ConfigError: no scheduler answers there.
    """

    def __init__(self, scheduler: str, workers: int) -> None:
        self._cluster: Any = None
        if scheduler == "local":
            self._cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
            )
        try:
            self._client = distributed.Client(self._cluster or scheduler, timeout="20s")
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(f"no Dask scheduler answers at {scheduler!r}: {error}") from error

    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance
    ) -> Iterator[tuple[Task, Mapping[str, Any]]]:
        futures = {
            self._client.submit(_work, stage.name, config, task, pure=False, retries=_RETRIES): task for task in tasks
        }
        for future in distributed.as_completed(futures):
            task = futures[future]
            try:
                result: Mapping[str, Any] = future.result()
            except distributed.KilledWorker as error:
                raise StillroomError(f"{stage.name}: workers died again and again in {task.name}: {error}") from error
            advance(task.units)
            yield task, result

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _work(stage: str, config: Config, task: Task) -> Mapping[str, Any]:
    """What a worker process does."""
    from .registry import stage_named

    return stage_named(stage).run(config, task, lambda _: None)
