"""Ingesting one data shard: reading, judging, and writing what is accepted."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.images.batching import runs
from stillroom.pipeline.images.downscale import shrunk
from stillroom.pipeline.images.sandbox import TOGETHER, examine_apart
from stillroom.pipeline.images.verdict import Accepted, Rejected
from stillroom.pipeline.rng.seeds import uid_of
from stillroom.stages.run.places import place_of
from stillroom.stages.run.stage import Advance
from stillroom.storage.dataset.dataset import index_name, ingest_task, shard_name
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.dataset.webdataset import Member, pack, scan_tar
from stillroom.storage.ledger.fingerprint import fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.spill.byte_spool import Slices

from .provenance import made_from, refuse_changed_source, shrinks
from .sources.samples import Sample, Unusable, largest_file
from .sources.source import Source

_JUDGED_TOGETHER = 64


def ingest_shard(config: Config, part: str, source: Source, shard: int, advance: Advance) -> Mapping[str, Any]:
    """Read, judge, and write a data shard of what is accepted; existing tars are only indexed where nothing changes."""
    place, shrinking = place_of(config, part), shrinks(config, part)
    store = shrinking or source.tars is None
    max_pixels = config.data.max_pixels
    for other in itertools.islice(Ledger(place).records("ingest"), 1):
        refuse_changed_source(config, part, place, other, source)
    within = config.render.encoded_mb * 2**20
    samples, origin = source.read(shard, largest_file(max_pixels), within)
    kept: list[tuple[Sample, Accepted]] = []
    rejected: list[dict[str, str]] = []
    judged = _judged(samples, max_pixels, config.data.max_side if shrinking else None, rejected, advance)
    written = {}
    if store:
        packed = pack(_files(judged, kept), within)
        kept = [(sample.at(member), verdict) for (sample, verdict), member in zip(kept, _images(packed), strict=True)]
        written[shard_name(shard)] = packed.write_to(place, shard_name(shard))
    else:
        kept = [(sample.without_image(), verdict) for sample, verdict in judged]
    written[index_name(shard)] = ObjectDigest.by_writing(place, index_name(shard), _index(kept).to_parquet())
    made_of = made_from(config, part, source)
    facts = {"accepted": len(kept), "rejected": rejected, "made_from": made_of, **({} if store else origin)}
    Ledger(place).put(Record(ingest_task(shard), fingerprint_digest(made_of), written, facts))
    return {"accepted": len(kept), "rejected": len(rejected)}


def _judged(
    samples: Iterator[Sample | Unusable],
    max_pixels: int,
    max_side: int | None,
    rejected: list[dict[str, str]],
    advance: Advance,
) -> Iterator[tuple[Sample, Accepted]]:
    """The samples that are accepted, in order, each with its image; smaller where a side is given.

    Args:
        samples: which.
        max_pixels, max_side: of an image, at most.
        rejected: takes the others, by key and reason.
        advance: is told of all.
    """
    for batch in runs(samples, _weight, TOGETHER, _JUDGED_TOGETHER):
        verdicts = iter(examine_apart([item.image for item in batch if isinstance(item, Sample)], max_pixels))
        for item in batch:
            verdict = next(verdicts) if isinstance(item, Sample) else item.verdict
            if isinstance(verdict, Rejected):
                rejected.append({"key": item.key, "reason": verdict.reason})
            elif isinstance(item, Sample):
                yield (item, verdict) if max_side is None else _smaller(item, verdict, max_side)
        advance(len(batch))


def _files(
    judged: Iterable[tuple[Sample, Accepted]], kept: list[tuple[Sample, Accepted]]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each sample's key and files, to be packed; what is known of it beside its image is kept."""
    for sample, verdict in judged:
        kept.append((sample.without_image(), verdict))
        yield sample.key, sample.files()


def _smaller(sample: Sample, verdict: Accepted, max_side: int) -> tuple[Sample, Accepted]:
    """A sample with an image of at most that size."""
    found = shrunk(sample.image, verdict, max_side)
    return (sample, verdict) if found is None else (sample.with_image(found[0]), found[1])


def _weight(item: Sample | Unusable) -> int:
    return len(item.image) if isinstance(item, Sample) else 0


def _images(tar: Slices) -> Iterator[Member]:
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
