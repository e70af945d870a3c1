"""Sealing: a cache's single records of its teachers' tasks go into a few objects; and back, should those be damaged.

In this order: the parts are written and read back; their list, which is a record of its own, makes them count; the
cache's metadata says that its ledger is sealed, so that versions that cannot read that refuse it by name; last, single
records that are sealed word for word are removed. A kill between any two leaves every record in one place or in both.
Whoever calls holds the claim of the task "sealed": see `claims`, which keeps writers out meanwhile.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger.ledger import FOLDER, Ledger
from stillroom.storage.ledger.record import ObjectDigest, Record, parse_record
from stillroom.storage.ledger.sealed import (
    DROPPED,
    PART_RECORDS,
    PARTS,
    SEALED_TASK,
    DamagedSealError,
    Part,
    Sealed,
    in_parts,
    lines_of,
)
from stillroom.storage.ledger.snapshot import Snapshot, name_of, parsed, task_of
from stillroom.storage.objects.base import Place

from .cache import FEATURES, FORMAT_WITH_FEATURES, Cache
from .layout import SEEDS_TASK, TEACHERS

METADATA = "zarr.json"
REPLACED = "replaced"
"""Among the facts: digest of the seeds' record before sealing, by its digest since. Whoever verified the one has
verified the other."""


def seal(place: Place, part_records: int = PART_RECORDS) -> Sealed:
    """Seal what is done now, together with what was sealed before.

    Args:
        place: the cache's.
        part_records: records in one part.

    Raises:
        DamagedObjectError: a record is damaged, or what was written does not read back; no record was removed.
        MissingObjectError: there is no cache.
    """
    cache = Cache(place)
    before = cache.ledger.sealed()
    records = list(_whole_records(place))
    parts: list[Part] = []
    objects: dict[str, ObjectDigest] = {}
    for part, data in in_parts(records, part_records):
        name = f"{PARTS}/{part.name}"
        objects[name] = ObjectDigest.by_writing(place, name, data)
        if not objects[name].matches(place, name):
            raise DamagedObjectError(f"{place}/{name} does not read back as it was written; nothing was removed")
        parts.append(part)
    metadata = _marked(place)
    seeds = cache.ledger.get(SEEDS_TASK)
    assert seeds is not None
    objects_marked = {**seeds.objects, METADATA: ObjectDigest.of(metadata)}
    marked = Record(seeds.task, seeds.fingerprint, objects_marked, dict(seeds.facts))
    replaced: dict[str, str] = dict(before.record.facts.get(REPLACED, {})) if before is not None else {}
    if marked != seeds:
        replaced = {ObjectDigest.of(marked.to_bytes()).digest: ObjectDigest.of(seeds.to_bytes()).digest}
    objects[METADATA] = ObjectDigest.of(metadata)
    facts: Mapping[str, Any] = {
        "records": len(records),
        "parts": [[part.name, part.first, part.last, part.count] for part in parts],
        DROPPED: sorted(Snapshot(place, TEACHERS).singles - {task for task, _ in records}),
        REPLACED: replaced,
    }
    cache.ledger.put(Record(SEALED_TASK, seeds.fingerprint, objects, facts))
    if marked != seeds:
        place.write(METADATA, metadata)
        cache.ledger.put(marked)
    sealed = Sealed.of(place)
    assert sealed is not None
    if any(sealed.raw(task) != data for task, data in records):
        raise DamagedSealError(f"{place}: what was sealed does not read back; nothing was removed")
    for name in left_over(place, sealed):
        place.delete(name)
    return sealed


def left_over(place: Place, sealed: Sealed) -> Iterator[str]:
    """Names of objects that sealing has made superfluous: single records that are sealed word for word, notes that a
    record was dropped which is sealed no more, and parts that are not listed.
    """
    for task in sorted(Snapshot(place, TEACHERS).singles):
        with suppress(MissingObjectError, ValueError):
            data = place.read(name_of(task))
            kept = sealed.raw(task)
            if data == kept or (kept is None and parse_record(task, data) is None):
                yield name_of(task)
    for name in list(place.list(PARTS)):
        if name.endswith(".jsonl") and name not in sealed.record.objects:
            yield name


def unseal(place: Place) -> int:
    """Give every record that is whole an object of its own again: for a sealed ledger of which some is damaged.

    The list of parts stays, empty. Tasks whose records were lost are done again.

    Returns:
        How many records came back.
    """
    try:
        sealed = Sealed.of(place)
        listed = None if sealed is None else {f"{PARTS}/{part.name}" for part in sealed.parts}
    except DamagedSealError:
        listed = None
    names = [name for name in place.list(PARTS) if name.endswith(".jsonl") and (listed is None or name in listed)]
    back = 0
    for name in names:
        for task, line in lines_of(place.read(name)):
            with suppress(ValueError):
                if task.startswith(f"{TEACHERS}/") and parse_record(task, line) is not None:
                    # Where there is a single record, or a note that it was dropped, that is newer.
                    back += place.create(name_of(task), line)
    facts = {"records": 0, "parts": [], DROPPED: list(_noted_as_dropped(place))}
    Ledger(place).put(Record(SEALED_TASK, "", {}, facts))
    for name in names:
        place.delete(name)
    return back


def _noted_as_dropped(place: Place) -> Iterator[str]:
    for name in place.list(f"{FOLDER}/{TEACHERS}"):
        task = task_of(name)
        with suppress(MissingObjectError, ValueError):
            if task is not None and parse_record(task, place.read(name)) is None:
                yield task


def _whole_records(place: Place) -> Iterator[tuple[str, bytes]]:
    """Every teacher's task that is done, and its record's bytes.

    Raises:
        DamagedObjectError: one is damaged.
    """
    snapshot = Snapshot(place, TEACHERS)
    for task in snapshot.tasks():
        data = snapshot.raw(task)
        if data is not None and parsed(place, task, data) is not None:
            yield task, data


def _marked(place: Place) -> bytes:
    """The cache's metadata, saying that its ledger is sealed."""
    data = place.read(METADATA)
    metadata = json.loads(data)
    ours = metadata["attributes"]["stillroom"]
    if SEALED_TASK in ours.get(FEATURES, ()):
        return data
    ours |= {"format": FORMAT_WITH_FEATURES, FEATURES: [*ours.get(FEATURES, ()), SEALED_TASK]}
    return json.dumps(metadata, indent=2).encode()
