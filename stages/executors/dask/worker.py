"""What runs in a Dask worker's process: one stage's tasks, one at a time, each told by no more than its name.

The scheduler hands stage and config to each worker once, as a plugin, to those that join later, too. Models and
renderers are built once and kept (`worker_cache`) until the plugin is taken away or another run's task comes.
"""

import asyncio
import signal
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import distributed

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.device.malloc import keep_freed_memory
from stillroom.stages.run.build_cache import release
from stillroom.stages.run.executor import Busy, Outcome, attempt
from stillroom.stages.run.registry import stage_named
from stillroom.stages.run.resources import pin_threads
from stillroom.stages.run.shutdown import Stopped
from stillroom.stages.run.stage import Task
from stillroom.storage.errors import StillroomError
from stillroom.storage.ledger.claims import Claims

_TELL_SECONDS = 0.5
_PLUGIN_SECONDS = 60.0
_FETCH_SECONDS = 1.0
_SLACK = 1.25
_ONE_AT_A_TIME = threading.Lock()
"""A worker that was started with several threads is given several tasks; they share one renderer."""


@dataclass(frozen=True)
class Halted:
    """A task that was not begun, or was left, since its executor was told to stop, or its worker's time is up."""


class StageOnWorker(distributed.WorkerPlugin):  # type: ignore[misc]
    """A stage, as a worker has it.

    Args:
        token: names this executor's stage; topic of what its workers tell.
        stage: the stage's name.
        config: of the run.
        again: do tasks that are done, too.
        threads: CPU threads of a worker; None: as many as it was started with.
        lifetime: seconds in which a worker must be done; it ends before it would begin a task that outlasts them.
        here: whether the workers are children of the process that was told to run this, which heeds signals for them.
    """

    def __init__(
        self,
        token: str,
        stage: str,
        config: Config,
        again: bool,
        threads: int | None,
        lifetime: float | None,
        here: bool,
    ) -> None:
        self.token = token
        self._stage, self._config, self._again = stage, config, again
        self._threads, self._lifetime, self._here = threads, lifetime, here
        self._worker: Any = None
        self._since = self._longest = 0.0
        self.halting = self.dropping = False

    def setup(self, worker: Any) -> None:
        self._worker = worker
        self._since = time.monotonic()
        keep_freed_memory()
        if self._here and threading.current_thread() is threading.main_thread():
            # Of a terminal or a batch system, which send them to every process: the one that we work for heeds them.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        self.halting = self.dropping = True
        _keep_for(None)

    def do(self, task: Task) -> Outcome | Busy | Halted:
        """Do a task, and tell how far it is."""
        if self.halting:
            return Halted()
        stage = stage_named(self._stage)
        pin_threads(self._threads or self._worker.state.nthreads)
        _keep_for(self.token)
        units, told = 0, (began := time.monotonic())

        def advance(more: int) -> None:
            nonlocal units, told
            units += more
            if self.dropping or (self.halting and stage.resumable):
                raise Stopped("the executor")
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                self._worker.log_event(self.token, [task.name, units])

        try:
            return attempt(stage, self._config, task, advance, _claims(), again=self._again)
        except Stopped:
            return Halted()
        finally:
            self._retire_in_time(time.monotonic() - began)

    def _retire_in_time(self, seconds: float) -> None:
        """End this worker between two tasks, where another one that takes as long as any so far would be too late."""
        self._longest = max(self._longest, seconds)
        if self._lifetime is None or time.monotonic() - self._since + _SLACK * self._longest < self._lifetime:
            return
        self._lifetime = None
        self.halting = True
        self._worker.loop.add_callback(self._leave)

    async def _leave(self) -> None:
        await asyncio.sleep(_FETCH_SECONDS)  # the last task's outcome is yet to be fetched
        await self._worker.close_gracefully(reason="no task more would be done in time")


def work(token: str, task: Task) -> Outcome | Busy | Halted:
    """Do a task of the stage that a token names."""
    plugins = distributed.get_worker().plugins
    until = time.monotonic() + _PLUGIN_SECONDS
    while token not in plugins:  # a worker that has just joined
        if time.monotonic() > until:
            raise StillroomError(f"this worker was not told what {task.name} is part of; are its versions the same?")
        time.sleep(0.05)
    with _ONE_AT_A_TIME:
        found: Outcome | Busy | Halted = plugins[token].do(task)
        return found


def halt(token: str, drop: bool, dask_worker: Any) -> None:
    """Begin no more tasks; let go of the one in hand, or of a resumable one, where it next says how far it is."""
    plugin = dask_worker.plugins.get(token)
    if plugin is not None:
        plugin.halting, plugin.dropping = True, drop


_kept_for: str | None = None


def _keep_for(token: str | None) -> None:
    """Let go of what was built for another executor's stage."""
    global _kept_for
    if token != _kept_for:
        release()
    _kept_for = token


@lru_cache(maxsize=1)
def _claims() -> Claims:
    """The worker process's: it remembers how long it has watched others' claims."""
    return Claims()
