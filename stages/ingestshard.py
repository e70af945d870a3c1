"""Ingesting one data shard: reading, judging, and writing what is accepted."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..pipeline.config import Config
from ..pipeline.quarantine import examine_apart
from ..pipeline.seeds import uid_of
from ..pipeline.shrink import shrunk
from ..pipeline.verdict import Accepted, Rejected
from ..storage.dataset import index_name, ingest_task, shard_name
from ..storage.fingerprint import fingerprint_digest
from ..storage.index import ShardIndex
from ..storage.ledger import Ledger, Record, Written
from ..storage.shards import Member, scan_tar, tar_bytes
from ..storage.urls import open_parent
from .ingestsource import made_from, refuse_changed_source, shrinks
from .places import place_of
from .samples import Sample, Unusable, from_folder, from_tar, largest_file
from .sources import FolderSource, Source
from .stage import Advance

_DECODED_TOGETHER = 64


def ingest_shard(config: Config, part: str, source: Source, shard: int, advance: Advance) -> Mapping[str, Any]:
    """Read, judge, and write a data shard of what is accepted; existing tars are only indexed where nothing changes."""
    place, shrinking = place_of(config, part), shrinks(config, part)
    store = shrinking or isinstance(source, FolderSource)
    max_pixels = config.data.max_pixels
    for other in itertools.islice(Ledger(place).records("ingest"), 1):
        refuse_changed_source(config, part, place, other, source)
    kept: list[tuple[Sample, Accepted]] = []
    rejected: list[dict[str, str]] = []
    origin: dict[str, Any] = {}
    if isinstance(source, FolderSource):
        samples = from_folder(source.shards[shard], largest_file(max_pixels))
    else:
        # Read once, and whole, as students read it: what is judged, indexed and vouched for is one and the same.
        url = source.urls[shard]
        tar = _read(url)
        origin = {} if store else {"source": {"url": url, **asdict(Written.of(tar))}}
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
                if shrinking:
                    item, verdict = _smaller(item, verdict, config.data.max_side)
                kept.append((item if store else item.without_image(), verdict))
        advance(len(batch))
    written = {}
    if store:
        data = tar_bytes((sample.key, sample.files()) for sample, _ in kept)
        kept = [(sample.at(member), verdict) for (sample, verdict), member in zip(kept, _images(data), strict=True)]
        written[shard_name(shard)] = Written.by_writing(place, shard_name(shard), data)
    written[index_name(shard)] = Written.by_writing(place, index_name(shard), _index(kept).to_parquet())
    made_of = made_from(config, part, source)
    facts = {"accepted": len(kept), "rejected": rejected, "made_from": made_of, **origin}
    Ledger(place).put(Record(ingest_task(shard), fingerprint_digest(made_of), written, facts))
    return {"accepted": len(kept), "rejected": len(rejected)}


def _smaller(sample: Sample, verdict: Accepted, max_side: int | None) -> tuple[Sample, Accepted]:
    """A sample with an image of at most that size."""
    assert max_side is not None
    found = shrunk(sample.image, verdict, max_side)
    return (sample, verdict) if found is None else (sample.with_image(found[0]), found[1])


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
