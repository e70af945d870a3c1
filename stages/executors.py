"""Executors: they run the tasks of any stage, wave after wave, and know nothing of what the tasks do."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..pipeline.config import Config
from .progress import Progress
from .stage import Advance, Stage, Task


@dataclass(frozen=True)
class Summary:
    """What came of a stage.

    Attributes:
        stage: its name.
        ran, skipped: tasks that were done now, and that were done before.
        units: work of those that were done now.
        seconds: wall-clock time.
        results: what each task that ran returned, by name.
        concluded: what the stage made of them, where it joins them and any ran.
    """

    stage: str
    ran: int
    skipped: int
    units: int
    seconds: float
    results: Mapping[str, Mapping[str, Any]]
    concluded: Mapping[str, Any] | None


class Executor(ABC):
    """Runs tasks."""

    @abstractmethod
    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance
    ) -> Iterator[tuple[Task, Mapping[str, Any]]]:
        """Run tasks that do not depend on each other; yield each with its result as it is finished."""

    @abstractmethod
    def close(self) -> None:
        """Give back what was opened."""


class InProcess(Executor):
    """One task after another, here."""

    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance
    ) -> Iterator[tuple[Task, Mapping[str, Any]]]:
        for task in tasks:
            yield task, stage.run(config, task, advance)

    def close(self) -> None:
        pass


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
    tasks = stage.tasks(config)
    check = stage.done(config)
    left = [task for task in tasks if again or not check(task)]
    results: dict[str, Mapping[str, Any]] = {}
    units = 0

    def advance(more: int) -> None:
        nonlocal units
        units += more
        progress.advance(more)

    if left:
        with progress.stage(stage.name, stage.unit, sum(task.units for task in left)):
            for _, wave in groupby(left, key=lambda task: task.wave):
                for task, result in executor.run(stage, config, list(wave), advance):
                    results[task.name] = result
    concluded = stage.conclude(config, results) if stage.conclude is not None and left else None
    return Summary(
        stage.name,
        len(left),
        len(tasks) - len(left),
        units,
        time.perf_counter() - started,
        results,
        concluded,
    )
