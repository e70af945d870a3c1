"""Ingest: from a user's images to data shards, their indexes and a description of the whole.

One task per data shard and part ("train", "eval"); then one per part that joins the indexes.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..pipeline.config import Config
from ..pipeline.quarantine import examine_apart
from ..pipeline.seeds import uid_of
from ..pipeline.torchvisionname import is_torchvision, parse_torchvision
from ..pipeline.verdict import Accepted, Rejected
from ..storage.dataset import (
    DESCRIPTION,
    JOINED,
    REJECTED,
    WHOLE_TASK,
    Dataset,
    Description,
    contents_digest,
    index_name,
    ingest_task,
    read_index,
    shard_name,
)
from ..storage.errors import DamagedObjectError, DataError, MissingObjectError
from ..storage.fingerprint import Fingerprint, fingerprint_digest, refuse_difference
from ..storage.index import ShardIndex
from ..storage.ledger import Ledger, Record, Written
from ..storage.place import Place
from ..storage.shards import Member, scan_tar, tar_bytes
from ..storage.urls import open_parent
from .classes import labelled, names_of_labels
from .places import parts, place_of
from .samples import Sample, Unusable, from_folder, from_tar, largest_file
from .sources import FolderSource, Source, TarSource, open_source, url_of
from .stage import Advance, Home, Stage, Task
from .torchvisiondata import fetch

_REMEDY = "go back to the old setting, or ingest into another run.dir or data.dir"
_DECODED_TOGETHER = 64


def tasks(config: Config) -> Sequence[Task]:
    """Data shards of each part, then the description of each."""
    found = []
    for part in parts(config):
        data = _dataset(config, part)
        if data is not None:
            sizes = dict(zip(data.description.numbers, data.description.sizes, strict=True))
        else:
            sizes = dict(enumerate(_planned(open_source(config, part))))
        found += [Task(f"{part}/{ingest_task(number)}", 0, size) for number, size in sizes.items()]
    return [*found, *(Task(f"{part}/{WHOLE_TASK}", wave, 0) for wave, part in enumerate(parts(config), 1))]


def done(config: Config) -> Callable[[Task], bool]:
    """Whether a task's record is there.

    Raises:
        FingerprintError: its data was ingested from elsewhere or by other settings.
    """
    joined = {part: data for part in parts(config) if (data := _dataset(config, part)) is not None}
    described = {part: joined[part].description if part in joined else None for part in parts(config)}
    for part, description in described.items():
        if description is not None:
            _refuse_other_source(place_of(config, part), description.ingest, _made_from(config, part))

    def check(task: Task) -> bool:
        part, _, name = task.name.partition("/")
        place, description = place_of(config, part), described[part]
        if name == WHOLE_TASK:
            record = Ledger(place).get(name)
            return description is not None and record is not None and record.fingerprint == _whole(place, description)
        record = Ledger(place).get(name)
        if record is not None and description is None:
            _refuse_changed_source(config, part, place, record, open_source(config, part))
        return record is not None and (part not in joined or joined[part].joins(record))

    return check


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Do one task."""
    part, _, name = task.name.partition("/")
    source = open_source(config, part)
    if name == WHOLE_TASK:
        return _describe(config, part, source)
    return _ingest_shard(config, part, source, int(name.rpartition("/")[2]), advance)


def _planned(source: Source) -> list[int]:
    """Samples of each data shard as far as they are known before reading."""
    return [len(shard) for shard in source.shards] if isinstance(source, FolderSource) else [0] * len(source.urls)


def _made_from(config: Config, part: str, source: Source | None = None) -> Fingerprint:
    stated: dict[str, Any] = {
        f"data.{part}": url_of(config, part),
        "data.holdout": config.data.holdout,
        "data.samples_per_shard": config.data.samples_per_shard,
        "data.max_pixels": config.data.max_pixels,
        "data.classes": list(config.data.classes) if config.data.classes else None,
    }
    if not labelled(config, part):
        stated["data.labels"] = False  # said only where it is so, since older data sets say nothing of it
    return stated if source is None else {**stated, "listing": source.listing}


def _refuse_other_source(place: Place, stored: Fingerprint, wanted: Fingerprint) -> None:
    refuse_difference(f"data {place}", stored, wanted, _REMEDY)


def _refuse_changed_source(config: Config, part: str, place: Place, record: Record, source: Source) -> None:
    """Refuse to go on with an ingest that began with other settings or other files.

    Raises:
        FingerprintError: a setting differs.
        DataError: files were added, removed or changed.
    """
    stored = dict(record.facts["made_from"])
    listing = stored.pop("listing")
    _refuse_other_source(place, stored, _made_from(config, part))
    if listing != source.listing:
        raise DataError(
            f"the files of data.{part} have changed since they began to be ingested into {place}; "
            f"delete {place} to ingest them anew, or use another run.dir"
        )


def _whole(place: Place, description: Description) -> str:
    """Fingerprint of a description: what it was made from, and the indexes that it joins."""
    return fingerprint_digest({"made_from": description.ingest, "indexes": _indexes(place, description.numbers)})


def _indexes(place: Place, numbers: Sequence[int]) -> list[str]:
    records = [Ledger(place).get(ingest_task(number)) for number in numbers]
    found = [record and record.objects.get(index_name(n)) for n, record in zip(numbers, records, strict=True)]
    return [item.digest if item else "" for item in found]


def _dataset(config: Config, part: str) -> Dataset | None:
    try:
        return Dataset(place_of(config, part))
    except (MissingObjectError, DamagedObjectError):
        return None


def _ingest_shard(config: Config, part: str, source: Source, shard: int, advance: Advance) -> Mapping[str, Any]:
    """Read, judge, and write a data shard of what is accepted; existing tars are only indexed."""
    place, store = place_of(config, part), isinstance(source, FolderSource)
    max_pixels = config.data.max_pixels
    for other in itertools.islice(Ledger(place).records("ingest"), 1):
        _refuse_changed_source(config, part, place, other, source)
    kept: list[tuple[Sample, Accepted]] = []
    rejected: list[dict[str, str]] = []
    origin: dict[str, Any] = {}
    if isinstance(source, FolderSource):
        samples = from_folder(source.shards[shard], largest_file(max_pixels))
    else:
        # Read once, and whole, as students read it: what is judged, indexed and vouched for is one and the same.
        url = source.urls[shard]
        tar = _read(url)
        origin = {"source": {"url": url, **asdict(Written.of(tar))}}
        samples = from_tar(tar, url, source.classes, largest_file(max_pixels))
    for batch in _batches(samples):
        verdicts = iter(
            examine_apart([item.image for item in batch if isinstance(item, Sample)], config.data.max_pixels)
        )
        for item in batch:
            verdict = next(verdicts) if isinstance(item, Sample) else item.verdict
            if isinstance(verdict, Rejected):
                rejected.append({"key": item.key, "reason": verdict.reason})
            elif isinstance(item, Sample):
                kept.append((item if store else item.without_image(), verdict))
        advance(len(batch))
    written = {}
    if store:
        data = tar_bytes((sample.key, sample.files()) for sample, _ in kept)
        kept = [(sample.at(member), verdict) for (sample, verdict), member in zip(kept, _images(data), strict=True)]
        written[shard_name(shard)] = _write(place, shard_name(shard), data)
    written[index_name(shard)] = _write(place, index_name(shard), _index(kept).to_parquet())
    made_from = _made_from(config, part, source)
    facts = {"accepted": len(kept), "rejected": rejected, "made_from": made_from, **origin}
    Ledger(place).put(Record(ingest_task(shard), fingerprint_digest(made_from), written, facts))
    return {"accepted": len(kept), "rejected": len(rejected)}


def _read(url: str) -> bytes:
    place, name = open_parent(url)
    return place.read(name)


def _batches(items: Iterator[Sample | Unusable]) -> Iterator[list[Sample | Unusable]]:
    while batch := list(itertools.islice(items, _DECODED_TOGETHER)):
        yield batch


def _images(tar: bytes) -> Iterator[Member]:
    """Where the images lie in a tar that we wrote."""
    for sample in scan_tar(tar, "the new tar"):
        yield next(member for extension, member in sample.members.items() if extension != "cls")


def _index(kept: Sequence[tuple[Sample, Accepted]]) -> ShardIndex:
    samples = [sample for sample, _ in kept]
    return ShardIndex(
        uid=np.array([uid_of(sample.key) for sample in samples], np.uint64),
        key=tuple(sample.key for sample in samples),
        label=np.array([sample.label for sample in samples], np.int32),
        offset=np.array([sample.member.offset for sample in samples], np.int64),
        size=np.array([sample.member.size for sample in samples], np.int64),
        height=np.array([verdict.height for _, verdict in kept], np.int32),
        width=np.array([verdict.width for _, verdict in kept], np.int32),
        digest=np.array([sample.digest for sample in samples], np.uint64),
    )


def _write(place: Place, name: str, data: bytes) -> Written:
    place.write(name, data)
    return Written.of(data)


def _describe(config: Config, part: str, source: Source) -> Mapping[str, Any]:
    """Join a part's indexes, and refuse it where they do not make a data set."""
    place = place_of(config, part)
    ledger = Ledger(place)
    records = [ledger.get(ingest_task(number)) for number in range(len(_planned(source)))]
    rejected = [item for record in records if record is not None for item in record.facts["rejected"]]
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rejected)
    written = {REJECTED: _write(place, REJECTED, lines.encode())}
    indexes = {
        number: read_index(place, record, index_name(number))
        for number, record in enumerate(records)
        if record is not None and record.facts["accepted"]
    }
    accepted = sum(len(index) for index in indexes.values())
    if len(rejected) > config.data.max_rejected * (len(rejected) + accepted) or not accepted:
        raise DataError(
            f"{len(rejected)} of {len(rejected) + accepted} images of data.{part} were rejected, more than "
            f"data.max_rejected ({config.data.max_rejected:.2%}) allows; {place}/{REJECTED} says why. Raise it, or "
            f"repair the files, delete {place} and ingest again"
        )
    _refuse_same_uids(indexes)
    highest = max(int(index.label.max()) for index in indexes.values())
    classes = names_of_labels(config, part, source.classes, highest)
    stated = Description(
        classes=classes,
        shards=tuple(source.urls[n] if isinstance(source, TarSource) else shard_name(n) for n in indexes),
        sizes=tuple(len(index) for index in indexes.values()),
        numbers=tuple(indexes),
        rejected=len(rejected),
        digest=contents_digest(list(indexes.values()), classes),
        ingest=_made_from(config, part),
    )
    written[DESCRIPTION] = _write(place, DESCRIPTION, stated.to_json())
    joined = dict(zip((index_name(number) for number in indexes), _indexes(place, stated.numbers), strict=True))
    ledger.put(Record(WHOLE_TASK, _whole(place, stated), written, {JOINED: joined}))
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


def homes(config: Config, task: Task) -> Sequence[Home]:
    """In the ledger of the part's own place."""
    part, _, name = task.name.partition("/")
    return [Home(place_of(config, part), name, name)]


def prepare(config: Config) -> None:
    """Have torchvision download what is to be ingested from it."""
    for part in parts(config):
        url = url_of(config, part)
        if is_torchvision(url) and _dataset(config, part) is None:
            fetch(parse_torchvision(url), config.data.download)


STAGE = Stage("ingest", "images", tasks, done, run, homes=homes, prepare=prepare)
