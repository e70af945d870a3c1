"""A record: what one finished task wrote, and the one form in which that is kept as bytes.

Each record carries a digest of itself, so that a damaged ledger is found too. Pure: nothing here reads or writes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from stillroom.storage.errors import MissingObjectError
from stillroom.storage.objects.base import PIECE, Place

from .fingerprint import canonical, digest

FOLDER = "ledger"

LEDGER_NODE = f"{FOLDER}/zarr.json"
"""Of a cache: it makes an empty Zarr array of the ledger's folder. Zarr would else warn whoever opens a cache by Zarr
alone that the folder is no part of the hierarchy."""
_HEAD = b'{"digest":"'
_START = len(_HEAD) + 32


@dataclass(frozen=True)
class ObjectDigest:
    """Size in bytes and xxh3-128 of an object that a task wrote."""

    size: int
    digest: str

    @classmethod
    def of(cls, data: bytes | memoryview) -> "ObjectDigest":
        return cls(len(data), digest(data))

    @classmethod
    def by_writing(cls, place: Place, name: str, data: bytes) -> "ObjectDigest":
        """Write an object."""
        place.write(name, data)
        return cls.of(data)

    @classmethod
    def by_reading(cls, place: Place, name: str, expected: int) -> "ObjectDigest":
        """Read an object, a large one in pieces, so that its size is not in this process's memory.

        Args:
            place, name: where it is.
            expected: its size in bytes if nothing is wrong; decides how it is read, and nothing else.

        Raises:
            MissingObjectError: there is none.
        """
        size = place.size(name) if expected > PIECE else None
        if size is None:
            return cls.of(place.read(name))
        state, found = xxhash.xxh3_128(), 0
        for piece in place.pieces(name, 0, size):
            state.update(piece)
            found += len(piece)
        return cls(found, str(state.hexdigest()))

    def matches(self, place: Place, name: str) -> bool:
        """Whether an object is there and is this."""
        try:
            return ObjectDigest.by_reading(place, name, self.size) == self
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
    objects: Mapping[str, ObjectDigest]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The record as it is kept."""
        objects = {name: [item.size, item.digest] for name, item in self.objects.items()}
        return _with_digest(
            {"task": self.task, "fingerprint": self.fingerprint, "objects": objects, "facts": dict(self.facts)}
        )


def dropped(task: str) -> bytes:
    """What stands in a record's place where a sealed one no longer counts."""
    return _with_digest({"task": task, "dropped": True})


def parse_record(task: str, data: bytes) -> Record | None:
    """A record from its bytes; None where it says that the task's record was dropped.

    Raises:
        ValueError: it is not what was written for that task.
    """
    # The digest comes first of the sorted keys, and is of the same bytes without it: no need to write them out again.
    if data[: len(_HEAD)] != _HEAD or data[_START : _START + 2] != b'",':
        raise ValueError("it is not written as records are")
    if digest(b"{" + data[_START + 2 :]).encode() != data[len(_HEAD) : _START]:
        raise ValueError("its digest does not match")
    try:
        body = json.loads(data)
        if body["task"] != task:
            raise ValueError(f"it is of the task {body['task']!r}")
        if "dropped" in body:
            return None
        objects = {name: ObjectDigest(int(size), str(hexa)) for name, (size, hexa) in body["objects"].items()}
        return Record(body["task"], body["fingerprint"], objects, body["facts"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks {error}") from error


def _with_digest(body: Mapping[str, Any]) -> bytes:
    return canonical({**body, "digest": digest(canonical(body))})
