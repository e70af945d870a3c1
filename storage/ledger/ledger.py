"""The ledger: which tasks are complete, and what bytes they wrote.

A task writes its objects first and its record last. The record, never the presence of a file, is what resuming,
status and readers trust. A finished ledger may be sealed: see `sealed`. Whoever looks at many tasks at once takes a
`snapshot`; here each call sees what is there now.
"""

from collections.abc import Iterator

from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.objects.base import Place

from .record import FOLDER as FOLDER
from .record import ObjectDigest as ObjectDigest
from .record import Record as Record
from .record import dropped
from .sealed import DamagedSealError, Sealed
from .snapshot import Snapshot, name_of, parsed


class Ledger:
    """The records under one place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._sealed: Sealed | None = None

    def name(self, task: str) -> str:
        """Name of the object that holds a task's record."""
        return name_of(task)

    def claim(self, name: str) -> str:
        """Name of the object that holds a claim; see `claims`."""
        return f"{FOLDER}/{name}.claim"

    def beat(self, name: str) -> str:
        """Name of the object in which a claim's holder gives signs of life."""
        return f"{FOLDER}/{name}.beat"

    def get(self, task: str) -> Record | None:
        """A task's record, or None where the task is not done.

        Raises:
            DamagedObjectError: the record does not match its own digest.
        """
        try:
            data: bytes | None = self.place.read(self.name(task))
        except MissingObjectError:
            sealed = self.sealed()
            data = sealed.raw(task) if sealed is not None else None
        return None if data is None else parsed(self.place, task, data)

    def has(self, task: str) -> bool:
        """Whether there is a record, good or damaged."""
        try:
            return self.get(task) is not None
        except DamagedObjectError:
            return True

    def put(self, record: Record) -> None:
        """Write a record; the task is done from here on."""
        self.place.write(self.name(record.task), record.to_bytes())

    def drop(self, task: str) -> None:
        """Forget that a task was done."""
        try:
            sealed = self.sealed()
            counts = sealed is not None and sealed.raw(task) is not None
        except DamagedSealError:
            counts = False  # no record in a damaged part counts until it is saved
        if counts:
            self.place.write(self.name(task), dropped(task))
        else:
            self.place.delete(self.name(task))

    def sealed(self) -> Sealed | None:
        """Its sealed part, as it is now.

        Raises:
            DamagedSealError: it is damaged.
        """
        self._sealed = Sealed.of(self.place, self._sealed)
        return self._sealed

    def snapshot(self, prefix: str = "") -> Snapshot:
        """What is in it now, for many looks."""
        found = Snapshot(self.place, prefix, self._sealed)
        self._sealed = found.sealed
        return found

    def tasks(self, prefix: str = "") -> Iterator[str]:
        """Names of the finished tasks whose name starts with the folder `prefix`, sorted."""
        yield from self.snapshot(prefix).tasks()

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders of tasks directly under `prefix`, sorted."""
        found = set(self.place.folders(f"{FOLDER}/{prefix}"))
        sealed = self.sealed()
        if sealed is not None:
            start = len(prefix) + 1
            found |= {task[start:].partition("/")[0] for task in sealed.tasks(prefix) if "/" in task[start:]}
        return sorted(found)

    def records(self, prefix: str = "") -> Iterator[Record]:
        """All records under `prefix`.

        Raises:
            DamagedObjectError: one of them is damaged.
        """
        yield from self.snapshot(prefix).records()

    def of_claim(self, claim: str) -> Iterator[Record]:
        """The records of tasks that share a claim: the one of that name, and those in the folder of that name."""
        record = self.get(claim)
        if record is not None:
            yield record
        yield from self.records(claim)
