"""One task in a cache of its own, cheap to do again and again, whose every writer may leave other bytes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.stages.run.executor import Busy, Outcome, attempt
from stillroom.stages.run.stage import RecordLocation, Stage, Task
from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.layout import block_task
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.ledger.claims import Claims, claims_in
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.base import Place, temporary_of
from stillroom.storage.objects.urls import open_place
from stillroom.storage.writers import block
from stillroom.storage.writers.teacher import TeacherWriter

SLOTS, VIEWS, CLASSES, SIZE = 40, 2, 50, 4
TASK = block_task("t", 0, 0)


def slow(place: Place, before_write: Callable[[str], None] | None) -> Place:
    """The place with something to do before each write, as a busy disk would make it."""
    write = place.write
    if before_write is not None:

        def slowly(name: str, data: bytes | memoryview) -> None:
            before_write(name)
            write(name, data)

        place.write = slowly  # type: ignore[method-assign]
    return place


@dataclass(frozen=True)
class OneTask:
    """The cache, and its one block.

    Attributes:
        folder: where it is: a path, or a URL.
    """

    folder: Path | str

    def place(self) -> Place:
        return open_place(str(self.folder))

    def create(self) -> None:
        """The cache with its seeds and its teacher's layout."""
        info = CacheInfo({}, 0, {"data": "none"}, (SLOTS,), VIEWS)
        create_cache(self.place(), info, [np.arange(SLOTS, dtype=np.uint64)])
        self.writer().lay_out()

    def writer(self, before_write: Callable[[str], None] | None = None, views: int = VIEWS) -> TeacherWriter:
        cache = Cache(slow(self.place(), before_write))
        info = TeacherInfo({"model": "none"}, CLASSES, SIZE, "float16", (1,))
        return TeacherWriter(cache.ledger, cache.layout, "t", info, cache.info.views, views)

    def stage(self, value: int, before_write: Callable[[str], None] | None = None) -> Stage:
        """A stage whose one task writes a number wherever it can."""

        def run(config: Any, task: Task, advance: Callable[[int], None]) -> Mapping[str, Any]:
            block.write_block(
                self.writer(before_write),
                0,
                0,
                np.random.default_rng(value).normal(value, 0.01, (VIEWS, SLOTS, CLASSES)).astype(np.float32),
                np.full((VIEWS, SLOTS), value, np.uint16),
                {0: np.full((SIZE, SIZE, 3), value, np.uint8)},
                {"value": value},
            )
            return {"value": value}

        place = self.place()
        return Stage(
            "write",
            "blocks",
            lambda config: [Task(TASK)],
            lambda config: lambda task: Ledger(place).has(task.name),
            run,
            homes=lambda config, task: [RecordLocation(place, task.name, task.name)],
        )

    def attempt(
        self,
        value: int,
        claims: Claims,
        before_write: Callable[[str], None] | None = None,
        *,
        again: bool = False,
    ) -> Outcome | Busy:
        config: Any = None
        return attempt(self.stage(value, before_write), config, Task(TASK), lambda units: None, claims, again=again)

    def finish(self, value: int, claims: Claims, **how: Any) -> Outcome:
        """Attempt it until it is done, by us or by another."""
        while isinstance(outcome := self.attempt(value, claims, **how), Busy):
            time.sleep(0.01)
        return outcome

    def read(self, cache: Cache, view: int) -> tuple[set[int], set[int]]:
        """The numbers that a view's logits say, and its digests."""
        teacher = cache.teacher("t")
        logits, digests = teacher.logits(0, view), teacher.digests(0, view)
        return {int(value) for value in np.unique(np.rint(logits))}, {int(value) for value in np.unique(digests)}

    def forget(self) -> None:
        """Have it done again."""
        Ledger(self.place()).drop(TASK)

    def wrong(self, allowed: set[int], *, halted: bool = False) -> list[str]:
        """What is not as one of these writers alone would have left it.

        Args:
            allowed: what they write.
            halted: whether one of them is halted, maybe in the midst of a write.
        """
        place = self.place()
        record = Ledger(place).get(TASK)
        if record is None:
            return ["there is no record"]
        found = [
            f"{name} is not as its record says" for name, at in record.objects.items() if not at.matches(place, name)
        ]
        if found:
            return found
        cache = Cache(place)
        teacher = cache.teacher("t")
        says = {value for view in range(VIEWS) for numbers in self.read(cache, view) for value in numbers}
        says |= {int(value) for canary in teacher.canaries() for value in np.unique(canary.pixels)}
        says.add(int(record.facts["value"]))
        if len(says) != 1 or not says <= allowed:
            found.append(f"writers are mixed: {says} of {allowed}")
        if not halted:
            found += [f"{name} was left" for name in place.list() if temporary_of(name) is not None]
        return found + [f"claim {name} was left" for name in claims_in(place)]
