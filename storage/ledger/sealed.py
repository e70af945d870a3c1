"""The sealed part of a ledger: the records of many tasks in a few objects, JSON lines sorted by task.

`ledger/sealed.json` is a record like any other, of the task "sealed": its objects are the parts. A single record beside
them, or a note that a record was dropped, goes before a sealed one. A part is checked whole when it is first read; its
lines are the records' own bytes, so that of a damaged part all but the damaged lines can be saved.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.objects.base import Place

from .fingerprint import digest
from .record import FOLDER, ObjectDigest, Record, parse_record

SEALED_TASK = "sealed"
SEALED = f"{FOLDER}/{SEALED_TASK}.json"
PARTS = f"{FOLDER}/{SEALED_TASK}"
PART_RECORDS = 4096
"""Of one part: some 3 MB."""
DROPPED = "dropped"
"""Among the facts: tasks whose records were noted as dropped when it was sealed; the notes may still be there."""
_TASK = b'"task":'


class DamagedSealError(DamagedObjectError):
    """The sealed ledger is damaged: not one task's record, but the object that holds those of many."""

    code = "damaged-seal"


@dataclass(frozen=True)
class Part:
    """One object of sealed records.

    Attributes:
        name: the object's, below which nothing is: it holds its own digest.
        first, last: the tasks at its ends.
        count: of its records.
    """

    name: str
    first: str
    last: str
    count: int


class Sealed:
    """The sealed records of a ledger, as one reading of its list of parts finds them.

    Args:
        place: whose ledger.
        data: of `ledger/sealed.json`.

    Raises:
        DamagedSealError: it is damaged.
    """

    def __init__(self, place: Place, data: bytes) -> None:
        self.place = place
        self.source = data
        try:
            record = parse_record(SEALED_TASK, data)
            assert record is not None
            self.record: Record = record
            self.parts = tuple(Part(*part) for part in record.facts["parts"])
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise DamagedSealError(f"{place}/{SEALED} is damaged ({error}); {REMEDY}") from error
        self.dropped: frozenset[str] = frozenset(record.facts.get(DROPPED, ()))
        self._firsts = [part.first for part in self.parts]
        self._read: dict[str, dict[str, bytes]] = {}

    @classmethod
    def of(cls, place: Place, before: "Sealed | None" = None) -> "Sealed | None":
        """What is sealed now; None where nothing is.

        Args:
            place: whose ledger.
            before: what an earlier reading found, which is returned where it still holds.
        """
        try:
            data = place.read(SEALED)
        except MissingObjectError:
            return None
        return before if before is not None and before.source == data else cls(place, data)

    def raw(self, task: str) -> bytes | None:
        """A task's record as it was sealed, or None.

        Raises:
            DamagedSealError: the part that may hold it is damaged or gone.
        """
        place = bisect_right(self._firsts, task) - 1
        if place < 0 or task > self.parts[place].last:
            return None
        return self._records(self.parts[place]).get(task)

    def tasks(self, prefix: str = "") -> Iterator[str]:
        """Names of the sealed tasks in the folder `prefix`, sorted."""
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for part in self.parts:
            if part.last >= folder and part.first[: len(folder)] <= folder:
                yield from (task for task in self._records(part) if task.startswith(folder))

    def _records(self, part: Part) -> dict[str, bytes]:
        if part.name not in self._read:
            name = f"{PARTS}/{part.name}"
            try:
                data = self.place.read(name)
            except MissingObjectError as error:
                raise DamagedSealError(f"{self.place}/{name} is missing; {REMEDY}") from error
            if ObjectDigest.of(data) != self.record.objects.get(name):
                raise DamagedSealError(f"{self.place}/{name} is not what was sealed; {REMEDY}")
            found = dict(lines_of(data))
            if len(found) != part.count:
                raise DamagedSealError(f"{self.place}/{name} has {len(found)} records, not {part.count}; {REMEDY}")
            self._read[part.name] = found
        return self._read[part.name]


REMEDY = "`stillroom verify --repair` saves every record in it that is whole"


def lines_of(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Task and record of each line of a part; lines in which no task can be read are left out."""
    for line in data.splitlines():
        try:
            # The task comes last of a record's sorted keys.
            yield str(json.loads(line.rpartition(_TASK)[2][:-1])), line
        except ValueError:
            continue


def in_parts(records: Sequence[tuple[str, bytes]], size: int = PART_RECORDS) -> Iterator[tuple[Part, bytes]]:
    """Records, sorted by task, as parts and their bytes."""
    for start in range(0, len(records), size):
        some = records[start : start + size]
        data = b"".join(line + b"\n" for _, line in some)
        name = f"{start // size:06d}-{digest(data)[:16]}.jsonl"
        yield Part(name, some[0][0], some[-1][0], len(some)), data
