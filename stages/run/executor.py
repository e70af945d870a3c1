"""Executors: they run the tasks of any stage, wave after wave, and know nothing of what the tasks do."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.storage.errors import StillroomError
from stillroom.storage.ledger import failures
from stillroom.storage.ledger.claims import Claim, Claims
from stillroom.storage.ledger.ledger import Ledger

from .build_cache import release
from .progress import Progress
from .shutdown import StopRequest
from .stage import Advance, Stage, Task
from .task_results import forget

Outcome = Mapping[str, Any] | None
"""What a task returned; None where another writer had done it by then."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Busy:
    """Another writer has a task in hand.

    Attributes:
        who: for people.
    """

    who: str


@dataclass(frozen=True)
class Summary:
    """What came of a stage.

    Attributes:
        stage: its name.
        ran, skipped: tasks that were done now, and that were done before or by others meanwhile.
        left: tasks that were left to other jobs, and that were not done when this began.
        units: work of those that were done now.
        seconds: wall-clock time.
        results: what each task that ran returned, by name.
        concluded: what the stage made of them, where it joins them and any were left.
    """

    stage: str
    ran: int
    skipped: int
    left: int
    units: int
    seconds: float
    results: Mapping[str, Mapping[str, Any]]
    concluded: Mapping[str, Any] | None


class Executor(ABC):
    """Runs tasks."""

    @abstractmethod
    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance, *, again: bool = False
    ) -> Iterator[tuple[Task, Outcome]]:
        """Run tasks that do not depend on each other; yield each with its outcome as it is finished.

        Args:
            stage, config, tasks: what to do.
            advance: told of finished units.
            again: do tasks that are done, too.
        """

    def share(self, stage: Stage, config: Config, tasks: Sequence[Task], left: Sequence[bool]) -> Sequence[bool]:  # noqa: ARG002
        """Which of a stage's tasks this executor sees to, of those that are left to do."""
        return left

    def conclude(
        self,
        stage: Stage,
        config: Config,
        tasks: Sequence[Task],  # noqa: ARG002
        results: Mapping[str, Mapping[str, Any]],
    ) -> Mapping[str, Any] | None:
        """What a stage makes of its tasks' results, where it joins them."""
        if stage.conclude is None:
            return None
        forget(stage, config)  # what jobs found before; this is all of it, and newer
        return stage.conclude(config, results, True)

    @abstractmethod
    def close(self) -> None:
        """Give back what was opened."""


class InProcess(Executor):
    """One task after another, here.

    Args:
        stop: whether we were asked to stop.
        claims: this process's.
    """

    def __init__(self, stop: StopRequest | None = None, claims: Claims | None = None) -> None:
        self.stop = stop or StopRequest()
        self.claims = claims or Claims()

    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance, *, again: bool = False
    ) -> Iterator[tuple[Task, Outcome]]:
        def advanced(units: int) -> None:
            advance(units)
            if stage.resumable:
                self.stop.check()

        waiting = deque(tasks)
        passed_over = 0
        while waiting:
            self.stop.check()
            task = waiting.popleft()
            outcome = attempt(stage, config, task, advanced, self.claims, again=again)
            if isinstance(outcome, Busy):
                waiting.append(task)
                passed_over += 1
                if passed_over >= len(waiting):
                    self.stop.sleep(_POLL_SECONDS)
                    passed_over = 0
            else:
                passed_over = 0
                yield task, outcome

    def close(self) -> None:
        pass


def attempt(
    stage: Stage, config: Config, task: Task, advance: Advance, claims: Claims, *, again: bool = False
) -> Outcome | Busy:
    """Do a task, unless another writer does it or has done it; again where two writers' work was mixed."""
    if stage.homes is None:
        return stage.run(config, task, advance)
    homes = stage.homes(config, task)
    while True:
        with ExitStack() as taken:
            held: list[tuple[Claim, str]] = []
            for home in homes:
                claim = taken.enter_context(claims.taken(home.place, home.claim))
                if not isinstance(claim, Claim):
                    return Busy(str(claim))
                held.append((claim, home.record))
            if not again and all(Ledger(home.place).has(home.record) for home in homes) and stage.done(config)(task):
                return None
            try:
                outcome = stage.run(config, task, advance)
            except BaseException as error:
                if isinstance(error, Exception):
                    for home in homes:
                        failures.leave(home.place, home.record, error)
                # Where a claim was taken over meanwhile, what was written before the error went over another's work.
                with suppress(OSError, StillroomError):
                    _settle(held)
                raise
            if _settle(held):
                for home in homes:
                    failures.take_away(home.place, home.record)
                return outcome


def _settle(held: Sequence[tuple[Claim, str]]) -> bool:
    """Whether all that was written under these claims stands."""
    stood = [claim.settle(record) for claim, record in held]  # each one, whatever came of those before
    return all(stood)


def execute(stage: Stage, config: Config, executor: Executor, progress: Progress, *, again: bool = False) -> Summary:
    """Do what is left of a stage.

    Args:
        stage: which.
        config: of the run.
        executor: who does it.
        progress: told of each finished unit.
        again: do tasks that are done, too.
    """
    started = time.perf_counter()
    if not stage.asks_teacher:
        release()
    if stage.prepare is not None:
        stage.prepare(config)
    tasks = stage.tasks(config)
    check = stage.done(config)
    open_ = [again or not check(task) for task in tasks]
    left = [task for task, mine in zip(tasks, executor.share(stage, config, tasks, open_), strict=True) if mine]
    results: dict[str, Mapping[str, Any]] = {}
    units = others = 0

    def advance(more: int) -> None:
        nonlocal units
        units += more
        progress.advance(more)

    if left:
        with progress.stage(stage.name, stage.unit, sum(task.units for task in left)):
            for _, wave in groupby(left, key=lambda task: task.wave):
                for task, outcome in executor.run(stage, config, list(wave), advance, again=again):
                    if outcome is None:
                        others += 1
                        progress.advance(task.units)
                    else:
                        results[task.name] = outcome
    concluded = executor.conclude(stage, config, tasks, results) if any(open_) else None
    return Summary(
        stage.name,
        len(results),
        len(tasks) - sum(open_) + others,
        sum(open_) - len(results) - others,
        units,
        time.perf_counter() - started,
        results,
        concluded,
    )
