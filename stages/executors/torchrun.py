"""The executor of ranks that do each task together, as torchrun starts them.

The first rank alone claims a task, and says whether it is to be done; the others follow. Whether to stop is asked of
all after every step, so that all stop at the same one.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.device.distributed import Ranks
from stillroom.stages.run.executor import Busy, Executor, Outcome, attempt
from stillroom.stages.run.shutdown import Stopped, StopRequest
from stillroom.stages.run.stage import Advance, Stage, Task
from stillroom.storage.ledger.claims import Claims

_POLL_SECONDS = 1.0


class _Word(IntEnum):
    """What the first rank says of a task."""

    OVER = 0
    DO = 1
    WAIT = 2


class Ranked(Executor):
    """One task after another, each by all ranks.

    Args:
        ranks: which have met.
        stop: whether we were asked to stop.
    """

    def __init__(self, ranks: Ranks, stop: StopRequest | None = None) -> None:
        self._ranks = ranks
        self._stop = stop or StopRequest()
        self._claims = Claims()

    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance, *, again: bool = False
    ) -> Iterator[tuple[Task, Outcome]]:
        def advanced(units: int) -> None:
            advance(units)
            if stage.resumable:
                self._check()

        for task in tasks:
            outcome: Outcome | Busy = Busy("nobody yet")
            while isinstance(outcome, Busy):
                self._check()
                take_part = self._lead if self._ranks.first else self._follow
                outcome = take_part(stage, config, task, advanced, again)
            yield task, outcome

    def share(self, stage: Stage, config: Config, tasks: Sequence[Task], left: Sequence[bool]) -> Sequence[bool]:  # noqa: ARG002
        """What the first rank sees: another process may finish a task between two looks."""
        return [bool(item) for item in self._ranks.sum(*(int(item and self._ranks.first) for item in left))]

    def close(self) -> None:
        pass

    def _lead(self, stage: Stage, config: Config, task: Task, advance: Advance, again: bool) -> Outcome | Busy:
        def run(config: Config, task: Task, advance: Advance) -> Any:
            self._ranks.broadcast(_Word.DO)
            return stage.run(config, task, advance)

        outcome = attempt(replace(stage, run=run), config, task, advance, self._claims, again=again)
        self._ranks.broadcast(_Word.WAIT if isinstance(outcome, Busy) else _Word.OVER)
        if isinstance(outcome, Busy):
            time.sleep(_POLL_SECONDS)
        return outcome

    def _follow(self, stage: Stage, config: Config, task: Task, advance: Advance, again: bool) -> Outcome | Busy:  # noqa: ARG002
        outcome: Outcome = None
        while (word := self._ranks.broadcast(_Word.OVER)) == _Word.DO:
            outcome = stage.run(config, task, advance)
        return Busy("the first rank") if word == _Word.WAIT else outcome

    def _check(self) -> None:
        """Stop here if any rank was asked to.

        Raises:
            Stopped: one was.
        """
        (asked,) = self._ranks.sum(int(self._stop.signal is not None))
        if asked:
            raise Stopped(self._stop.signal.name if self._stop.signal is not None else "another rank's signal")
