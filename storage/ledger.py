"""The ledger: which tasks are complete, and what bytes they wrote.

A task writes its objects first and its record last. The record, never the presence of a file, is what resuming,
status and readers trust. Each record carries a digest of itself, so that a damaged ledger is found too.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import DamagedObjectError, MissingObjectError
from .fingerprint import canonical, digest
from .place import TEMPORARY, Place

FOLDER = "ledger"


@dataclass(frozen=True)
class Written:
    """Size in bytes and xxh3-128 of an object that a task wrote."""

    size: int
    digest: str

    @classmethod
    def of(cls, data: bytes | memoryview) -> "Written":
        return cls(len(data), digest(data))

    @classmethod
    def by_writing(cls, place: Place, name: str, data: bytes) -> "Written":
        """Write an object."""
        place.write(name, data)
        return cls.of(data)

    def matches(self, place: Place, name: str) -> bool:
        """Whether an object is there and is this."""
        try:
            return Written.of(place.read(name)) == self
        except MissingObjectError:
            return False


@dataclass(frozen=True)
class Record:
    """One finished task.

    Attributes:
        task: its name, a relative path such as "teacher/r18/000003.000001".
        fingerprint: digest of what it was made from.
        objects: what it wrote, by name.
        facts: figures about the run, plain data; never needed to read the objects.
    """

    task: str
    fingerprint: str
    objects: Mapping[str, Written]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """The records under one place."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def name(self, task: str) -> str:
        """Name of the object that holds a task's record."""
        return f"{FOLDER}/{task}.json"

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
            data = self.place.read(self.name(task))
        except MissingObjectError:
            return None
        return self._parse(task, data)

    def has(self, task: str) -> bool:
        """Whether there is a record, good or damaged."""
        return self.place.size(self.name(task)) is not None

    def put(self, record: Record) -> None:
        """Write a record; the task is done from here on."""
        body = {
            "task": record.task,
            "fingerprint": record.fingerprint,
            "objects": {name: [item.size, item.digest] for name, item in sorted(record.objects.items())},
            "facts": dict(record.facts),
        }
        self.place.write(self.name(record.task), canonical({**body, "digest": digest(canonical(body))}))

    def drop(self, task: str) -> None:
        """Forget that a task was done."""
        self.place.delete(self.name(task))

    def tasks(self, prefix: str = "") -> Iterator[str]:
        """Names of the finished tasks whose name starts with the folder `prefix`, sorted."""
        for name in self.place.list(f"{FOLDER}/{prefix}".rstrip("/")):
            if name.endswith(".json") and not name.rpartition("/")[2].startswith(TEMPORARY):
                yield name.removeprefix(f"{FOLDER}/").removesuffix(".json")

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders of tasks directly under `prefix`, sorted."""
        return self.place.folders(f"{FOLDER}/{prefix}")

    def records(self, prefix: str = "") -> Iterator[Record]:
        """All records under `prefix`.

        Raises:
            DamagedObjectError: one of them is damaged.
        """
        for task in self.tasks(prefix):
            record = self.get(task)
            if record is not None:
                yield record

    def of_claim(self, claim: str) -> Iterator[Record]:
        """The records of tasks that share a claim: the one of that name, and those in the folder of that name."""
        record = self.get(claim)
        if record is not None:
            yield record
        yield from self.records(claim)

    def _parse(self, task: str, data: bytes) -> Record:
        try:
            body = json.loads(data)
            stated = body.pop("digest")
            if digest(canonical(body)) != stated or body["task"] != task:
                raise ValueError("its digest does not match")
            if canonical({**body, "digest": stated}) != data:
                raise ValueError("it is not written as records are")  # 1E-06 for 1e-06 is one flipped bit
            objects = {name: Written(int(size), str(hexa)) for name, (size, hexa) in body["objects"].items()}
            return Record(body["task"], body["fingerprint"], objects, body["facts"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedObjectError(
                f"the ledger record {self.place}/{self.name(task)} is damaged ({error}); "
                "delete it and run the stage again to redo that task"
            ) from error
