"""Tasks that do not depend on each other, on their way to a fleet's workers and back.

Each worker has one task in hand and none waiting: its death tells of that task alone, and of a hundred thousand tasks
no more are on their way than there are workers.
"""

import secrets
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import distributed

from stillroom.stages.run.executor import Busy, Outcome
from stillroom.stages.run.shutdown import StopRequest
from stillroom.stages.run.stage import Advance, Task
from stillroom.storage.errors import StillroomError

from .cluster import Fleet
from .worker import Halted, halt, work

RETRIES = 2
"""Times that a task is tried again after an error of the system: a disk, a network."""
_LATER_SECONDS = 2.0
_LOOK_SECONDS = 1.0
_MEND_SECONDS = 10.0
_WAIT_SAID_SECONDS = 60.0
_DROP_SECONDS = 4.0
_GONE = (OSError, TimeoutError, ValueError, RuntimeError)
"""What Dask's client raises where its scheduler, its loop or itself is gone: there is nobody left to tell."""


class Wave:
    """One wave of a stage.

    Args:
        fleet: whose workers do them.
        token: of the stage, as they know it.
        stage: its name.
        tasks: which.
        advance, stop, crew: whom to tell, and whom to heed.
    """

    def __init__(
        self,
        fleet: Fleet,
        token: str,
        stage: str,
        tasks: Sequence[Task],
        advance: Advance,
        stop: StopRequest,
        crew: Callable[[int], None],
    ) -> None:
        self._fleet, self._token, self._stage = fleet, token, stage
        self._advance, self._stop, self._crew = advance, stop, crew
        self._waiting = deque(tasks)
        self._later: deque[tuple[float, Task]] = deque()
        self._flying: dict[Any, tuple[Task, str | None]] = {}
        self._heard: SimpleQueue[Any] = SimpleQueue()
        self._units: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._workers: list[str] = []
        self._leaving: set[str] = set()
        self._looked = self._mended = self._manned = time.monotonic() - _LOOK_SECONDS
        self._halting = False

    def run(self) -> Iterator[tuple[Task, Outcome]]:
        client = self._fleet.client
        client.subscribe_topic(self._token, lambda event: self._heard.put(event[1]))
        try:
            while self._waiting or self._later or self._flying:
                self._heed()
                self._look()
                self._feed()
                yield from self._hear()
            self._stop.check()
        except BaseException:
            self._drop()
            raise
        finally:
            with suppress(*_GONE):
                client.unsubscribe_topic(self._token)

    def _heed(self) -> None:
        """Once we were asked to stop, begin nothing more; what is in hand may be finished."""
        if self._stop.signal is not None and not self._halting:
            self._halting = True
            self._waiting.clear()
            self._later.clear()
            self._halt(drop=False)

    def _look(self) -> None:
        """See who is there."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        before, self._workers = len(self._workers), self._fleet.workers()
        if len(self._workers) != before:
            self._crew(len(self._workers))
        if self._halting:  # what a worker that is gone had in hand would wait for another one
            for future, (_, worker) in list(self._flying.items()):
                if worker not in self._workers:
                    del self._flying[future]
        if self._workers:
            self._manned = now
        elif now - self._manned >= _WAIT_SAID_SECONDS:
            self._manned = now
            print(f"stillroom: {self._stage}: no worker is there ({self._fleet.about})", file=sys.stderr, flush=True)
        if now - self._mended >= _MEND_SECONDS:
            self._mended = now
            self._fleet.mend()

    def _feed(self) -> None:
        """Give each worker that has none a task."""
        now = time.monotonic()
        for _ in range(len(self._later)):
            due, task = self._later.popleft()
            if due <= now:
                self._waiting.append(task)
            else:
                self._later.append((due, task))
        occupied = {worker for _, worker in self._flying.values()}
        free: deque[str | None] = deque(worker for worker in self._workers if worker not in occupied | self._leaving)
        if not self._workers and not self._flying:
            free.append(None)  # a cluster that grows with its work has none until there is some
        while self._waiting and free and len(self._flying) < max(1, len(self._workers)):
            task, worker = self._waiting.popleft(), free.popleft()
            asked = {"workers": [worker], "allow_other_workers": True} if worker is not None else {}
            key = f"{task.name}-{secrets.token_hex(4)}"
            future = self._fleet.client.submit(work, self._token, task, key=key, pure=False, **asked)
            self._flying[future] = task, worker
            future.add_done_callback(self._heard.put)

    def _hear(self) -> Iterator[tuple[Task, Outcome]]:
        """Wait for a little, and take what comes of tasks."""
        with suppress(Empty):
            heard = self._heard.get(timeout=0.2)
            while True:
                if isinstance(heard, distributed.Future):
                    yield from self._ended(heard)
                else:
                    name, units = heard
                    if any(task.name == name for task, _ in self._flying.values()):
                        self._show(name, units)
                heard = self._heard.get_nowait()

    def _ended(self, future: Any) -> Iterator[tuple[Task, Outcome]]:
        if future not in self._flying:
            return
        task, worker = self._flying.pop(future)
        outcome = self._outcome(future, task)
        if isinstance(outcome, Busy | Halted):
            self._show(task.name, 0)
            if isinstance(outcome, Halted) and worker is not None:
                self._leaving.add(worker)
            if not self._halting:
                self._later.append((time.monotonic() + _LATER_SECONDS, task))
            return
        self._show(task.name, task.units if outcome is not None else 0)
        del self._units[task.name]
        yield task, outcome

    def _outcome(self, future: Any, task: Task) -> Outcome | Busy | Halted:
        """What a task came to.

        Raises:
            StillroomError: as the task raised it; or it took several workers down, or the scheduler is gone.
            OSError: the system failed in it again and again.
        """
        try:
            found: Outcome | Busy | Halted = future.result()
        except distributed.KilledWorker as error:
            raise StillroomError(
                f"{self._stage}: {task.name}: a worker died with it in hand, {error.allowed_failures + 1} times, "
                f"at last {error.last_worker.address}; for want of memory? ({self._fleet.about})"
            ) from error
        except distributed.client.FutureCancelledError as error:
            raise StillroomError(
                f"{self._stage}: {task.name} is lost: the Dask scheduler is gone, or dropped it ({self._fleet.about})"
            ) from error
        except OSError as error:
            self._failures[task.name] += 1
            if self._failures[task.name] > RETRIES:
                raise
            print(f"stillroom: {self._stage}: {task.name} is tried again: {error}", file=sys.stderr, flush=True)
            return Busy(str(error))
        return found

    def _show(self, name: str, units: int) -> None:
        """So many units of a task are done in all; fewer than before where it began anew."""
        more = units - self._units[name]
        self._units[name] = units
        if more:
            self._advance(more)

    def _halt(self, *, drop: bool) -> None:
        """Tell the workers; one that does not answer must not keep us."""
        if not self._flying:
            return

        def tell() -> None:
            with suppress(*_GONE):
                self._fleet.client.run(halt, self._token, drop, on_error="ignore")

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(_DROP_SECONDS)

    def _drop(self) -> None:
        """Have what is in hand let go, so that its claims are given back."""
        self._halt(drop=True)
        until = time.monotonic() + _DROP_SECONDS
        while self._flying and time.monotonic() < until:
            with suppress(Empty):
                heard = self._heard.get(timeout=0.2)
                if isinstance(heard, distributed.Future):
                    self._flying.pop(heard, None)
        with suppress(*_GONE):
            self._fleet.client.cancel(list(self._flying), force=True)
