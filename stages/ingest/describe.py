"""Joining a part's indexes into a data set: its classes, its counts, and its digest."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.places import place_of
from stillroom.storage.dataset.dataset import (
    DESCRIPTION,
    JOINED,
    REJECTED,
    WHOLE_TASK,
    Description,
    contents_digest,
    index_name,
    ingest_task,
    read_index,
    shard_name,
)
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.errors import DataError
from stillroom.storage.ledger.fingerprint import fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.base import Place

from .class_names import names_of_labels
from .provenance import made_from, shrinks
from .sources.source import Source


def describe(config: Config, part: str, source: Source) -> Mapping[str, Any]:
    """Join a part's indexes, and refuse it where they do not make a data set.

    Raises:
        DataError: too many images were rejected, two samples have one key, or classes do not fit.
    """
    place = place_of(config, part)
    ledger = Ledger(place)
    records = [ledger.get(ingest_task(number)) for number in range(len(source.sizes))]
    rejected = [item for record in records if record is not None for item in record.facts["rejected"]]
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rejected)
    written = {REJECTED: ObjectDigest.by_writing(place, REJECTED, lines.encode())}
    indexes = {
        number: read_index(place, record, index_name(number))
        for number, record in enumerate(records)
        if record is not None and record.facts["accepted"]
    }
    accepted = sum(len(index) for index in indexes.values())
    found = len(rejected) + accepted
    if not accepted:
        raise DataError(
            f"none of the {found} images of data.{part} can be used; {place}/{REJECTED} says why. Repair the files, "
            f"delete {place} and ingest again"
        )
    if len(rejected) > config.data.max_rejected * found:
        raise DataError(
            f"{len(rejected)} of {found} images of data.{part} were rejected, more than "
            f"data.max_rejected ({config.data.max_rejected:.2%}) allows; {place}/{REJECTED} says why. Raise it, or "
            f"repair the files, delete {place} and ingest again"
        )
    _refuse_same_uids(indexes)
    highest = max(int(index.label.max()) for index in indexes.values())
    classes = names_of_labels(config, part, source.classes, highest)
    indexed = None if shrinks(config, part) else source.tars
    stated = Description(
        classes=classes,
        shards=tuple(shard_name(n) if indexed is None else indexed[n] for n in indexes),
        sizes=tuple(len(index) for index in indexes.values()),
        numbers=tuple(indexes),
        rejected=len(rejected),
        digest=contents_digest(list(indexes.values()), classes),
        ingest=made_from(config, part),
    )
    written[DESCRIPTION] = ObjectDigest.by_writing(place, DESCRIPTION, stated.to_json())
    joined = dict(zip((index_name(number) for number in indexes), _indexes(place, stated.numbers), strict=True))
    ledger.put(Record(WHOLE_TASK, whole(place, stated), written, {JOINED: joined}))
    return {"samples": accepted, "rejected": len(rejected), "classes": len(classes)}


def _refuse_same_uids(indexes: Mapping[int, ShardIndex]) -> None:
    uids = np.concatenate([index.uid for index in indexes.values()])
    order = np.argsort(uids, kind="stable")
    same = np.flatnonzero(uids[order][1:] == uids[order][:-1])
    if len(same):
        places = [(number, key) for number, index in indexes.items() for key in index.key]
        (first, key), (second, other) = places[order[same[0]]], places[order[same[0] + 1]]
        what = "one key" if key == other else "keys of one uid"
        raise DataError(
            f"samples {key!r} in data shard {first} and {other!r} in data shard {second} have {what}; rename one"
        )


def whole(place: Place, description: Description) -> str:
    """Fingerprint of a description: what it was made from, and the indexes that it joins."""
    return fingerprint_digest({"made_from": description.ingest, "indexes": _indexes(place, description.numbers)})


def _indexes(place: Place, numbers: Sequence[int]) -> list[str]:
    records = [Ledger(place).get(ingest_task(number)) for number in numbers]
    found = [record and record.objects.get(index_name(n)) for n, record in zip(numbers, records, strict=True)]
    return [item.digest if item else "" for item in found]
