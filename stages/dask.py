"""The Dask executor: tasks as futures on worker processes, of this machine or of a running cluster.

Dask may run a task twice; tasks write the same bytes again and their record last, so that does no harm.
"""

import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import distributed

from ..pipeline.config import Config
from ..storage.claims import Claims
from ..storage.errors import ConfigError, StillroomError
from .executors import Busy, Executor, Outcome, attempt
from .stage import Advance, Stage, Task
from .stop import StopRequest

_RETRIES = 2
_POLL_SECONDS = 2.0


class Dask(Executor):
    """Tasks on a Dask cluster.

    Args:
        scheduler: address of a running scheduler, or "local" for worker processes on this machine.
        workers: how many, where they are local.
        stop: whether we were asked to stop.

    Raises:
        ConfigError: no scheduler answers there.
    """

    def __init__(self, scheduler: str, workers: int, stop: StopRequest | None = None) -> None:
        self._stop = stop or StopRequest()
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
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance, *, again: bool = False
    ) -> Iterator[tuple[Task, Outcome]]:
        futures = {self._submit(stage, config, task, again): task for task in tasks}
        coming = distributed.as_completed(futures)
        for future in coming:
            self._stop.check()
            task = futures.pop(future)
            try:
                outcome: Outcome | Busy = future.result()
            except distributed.KilledWorker as error:
                raise StillroomError(f"{stage.name}: workers died again and again in {task.name}: {error}") from error
            if isinstance(outcome, Busy):
                retried = self._submit(stage, config, task, again)
                futures[retried] = task
                coming.add(retried)
                continue
            if outcome is not None:
                advance(task.units)
            yield task, outcome

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def _submit(self, stage: Stage, config: Config, task: Task, again: bool) -> Any:
        ours = self._cluster is not None
        return self._client.submit(_work, stage.name, config, task, again, ours, pure=False, retries=_RETRIES)


def _work(stage: str, config: Config, task: Task, again: bool, ours: bool) -> Outcome | Busy:
    """What a worker process does. Workers that were started here each take a GPU of their own; others, as Dask-CUDA
    starts them, see no more than theirs.
    """
    from .registry import stage_named

    if ours:
        os.environ.setdefault("LOCAL_RANK", str(distributed.get_worker().name))
    outcome = attempt(stage_named(stage), config, task, lambda _: None, _claims(), again=again)
    if isinstance(outcome, Busy):
        time.sleep(_POLL_SECONDS)
    return outcome


@lru_cache(maxsize=1)
def _claims() -> Claims:
    """The worker process's: it remembers how long it has watched others' claims."""
    return Claims()
