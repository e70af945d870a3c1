"""A plan of any size in numbers alone: ledgers and metadata of a run whose images and logits were never made.

What keeps the books cannot tell it from a real run: every record is as ingest and the teacher write them, under a
finished data set's description and a cache with its seeds. Written without fsync, since it is thrown away.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.stages.ingest.describe import whole
from stillroom.stages.ingest.provenance import made_from
from stillroom.stages.teacher.seeds import cache_info
from stillroom.storage.cache.cache import Cache, create_cache
from stillroom.storage.cache.layout import CANARIES, DIGESTS, LOGITS, block_task, canary_place, teacher_folder
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.dataset.dataset import (
    DESCRIPTION,
    JOINED,
    REJECTED,
    WHOLE_TASK,
    Dataset,
    Description,
    index_name,
    ingest_task,
    shard_name,
)
from stillroom.storage.ledger.fingerprint import digest, fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.local import LocalPlace
from stillroom.storage.writers.teacher import TeacherWriter

TEACHER = "t"
_SIZE = 8
_SEEDED = 64
"""Data shards' worth of seeds that are drawn; all others hold the same."""


class QuickPlace(LocalPlace):
    """A local place whose writes may be lost."""

    def write(self, name: str, data: bytes | memoryview) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        samples: images in all.
        views: of each.
        per_shard, per_block: samples of a data shard, views of a block.
        classes: of the teacher.
        canaries: views that are kept whole.
    """

    samples: int
    views: int
    per_shard: int = 1000
    per_block: int = 10
    classes: int = 1000
    canaries: int = 16

    @property
    def sizes(self) -> tuple[int, ...]:
        full, rest = divmod(self.samples, self.per_shard)
        return (self.per_shard,) * full + ((rest,) if rest else ())

    @property
    def blocks(self) -> int:
        """Tasks of the teacher that teach a block."""
        return len(self.sizes) * (self.views // self.per_block)


IMAGENET = Plan(1_281_167, 300)
IMAGENET_22K = Plan(14_197_122, 90, classes=21_841)


def simulate(folder: Path, plan: Plan, share: float = 1.0) -> Config:
    """Write a run of a plan.

    Args:
        folder: where it goes.
        plan: which.
        share: of the teacher's blocks that are done, from the first block of views on.

    Returns:
        Its config.
    """
    config = config_of(folder, plan)
    _data(config, plan)
    _cache(config, plan)
    add_blocks(config, plan, 0, round(share * plan.blocks))
    return config


def config_of(folder: Path, plan: Plan) -> Config:
    """The config of a simulated run."""
    return parse_config(
        {
            "run": {"dir": str(folder / "run")},
            "data": {"train": str(folder / "images"), "samples_per_shard": plan.per_shard},
            "views": {"count": plan.views, "views_per_block": plan.per_block},
            "teacher": {"name": TEACHER, "model": "timm:test_resnet", "weights": str(folder / "w"), "size": _SIZE},
            "cache": {"canaries": plan.canaries},
            "render": {"backend": "dali-cpu", "threads": 1},
        }
    )


def _data(config: Config, plan: Plan) -> None:
    place = QuickPlace(Path(config.data_place.url))
    ledger, indexes = Ledger(place), {}
    source = made_from(config, "train")
    for number in range(len(plan.sizes)):
        indexes[index_name(number)] = ObjectDigest(48_000, digest(f"index {number}".encode()))
        tar = ObjectDigest(110_000_000, digest(f"tar {number}".encode()))
        facts = {"accepted": plan.sizes[number], "rejected": [], "made_from": {**source, "listing": "0" * 32}}
        written = {shard_name(number): tar, index_name(number): indexes[index_name(number)]}
        ledger.put(Record(ingest_task(number), fingerprint_digest(facts["made_from"]), written, facts))
    numbers = tuple(range(len(plan.sizes)))
    stated = Description(
        classes=tuple(f"class {number}" for number in range(plan.classes)),
        shards=tuple(map(shard_name, numbers)),
        sizes=plan.sizes,
        numbers=numbers,
        rejected=0,
        digest=digest(f"{plan}".encode()),
        ingest=source,
    )
    written = {
        REJECTED: ObjectDigest.by_writing(place, REJECTED, b""),
        DESCRIPTION: ObjectDigest.by_writing(place, DESCRIPTION, stated.to_json()),
    }
    joined = {name: item.digest for name, item in indexes.items()}
    ledger.put(Record(WHOLE_TASK, whole(place, stated), written, {JOINED: joined}))


def _cache(config: Config, plan: Plan) -> None:
    seeds = np.random.default_rng(0).integers(0, 2**63, (_SEEDED, plan.per_shard), np.uint64)
    rows = (seeds[number % _SEEDED, :size] for number, size in enumerate(plan.sizes))
    place = QuickPlace(Path(config.cache_place.url))
    create_cache(place, cache_info(config, Dataset(config.data_place)), rows)
    _writer(config, plan).lay_out()


def _writer(config: Config, plan: Plan) -> TeacherWriter:
    cache = Cache(QuickPlace(Path(config.cache_place.url)))
    section = config.teacher[0]
    made = {"model": section.model, "size": section.size, "precision": section.precision}
    info = TeacherInfo(made, plan.classes, _SIZE, config.cache.codec, tuple(range(plan.canaries)))
    return TeacherWriter(cache.ledger, cache.layout, TEACHER, info, cache.info.views, plan.views)


def add_blocks(config: Config, plan: Plan, first: int, stop: int) -> None:
    """Write the records of some blocks, counted from the first block of views on, data shard after data shard."""
    writer = _writer(config, plan)
    ledger = Ledger(QuickPlace(Path(config.cache_place.url)))
    for record in block_records(writer, plan, first, stop):
        ledger.put(record)


def block_records(writer: TeacherWriter, plan: Plan, first: int, stop: int) -> Iterator[Record]:
    """Records of blocks as the teacher writes them."""
    kept: dict[int, list[int]] = {}
    for number in range(plan.canaries):
        kept.setdefault(canary_place(writer.layout, number)[0], []).append(number)
    folder = teacher_folder(TEACHER)
    for place in range(first, stop):
        block, shard = divmod(place, len(plan.sizes))
        views = plan.sizes[shard] * plan.per_block
        size = views * plan.classes * 2
        named = {f"{folder}/{LOGITS}/c/{shard}/{block}/0/0": size, f"{folder}/{DIGESTS}/c/{shard}/{block}/0": 2 * views}
        if block == 0:
            named |= {f"{folder}/{CANARIES}/c/{number}/0/0/0": 3 * _SIZE**2 for number in kept.get(shard, ())}
        objects = {name: ObjectDigest(size, digest(name.encode())) for name, size in named.items()}
        facts = {
            "views": views,
            "seconds": round(40 + (place * 7919 % 1000) / 100, 3),
            "entropy": round(1 + (place % 997) / 1e4, 6),
            "top1": round(0.7 + (place % 991) / 1e5, 6),
            "codec": {
                "name": "float16",
                "bytes_per_view": 2000.0,
                "chunks": plan.per_block * 4,
                "refined": 0,
                "refine_max": 0,
                "exact": 0,
                "rows": views,
                "temperatures": [1.0],
                "kl_mean": [4.12345e-08],
                "kl_p99": [1.2345e-07],
                "kl_max": [2.5e-06],
                "top1": 0.9999,
            },
        }
        yield Record(block_task(TEACHER, shard, block), writer.identity, objects, facts)


def in_toml(config: Config, path: Path) -> Path:
    """The config as a file, for the command line."""
    lines = []
    for table, values in config.model_dump(mode="json", exclude_unset=True).items():
        many = isinstance(values, list)
        for one in values if many else [values]:
            lines.append(f"[[{table}]]" if many else f"[{table}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in one.items() if value is not None]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def counting(base: type[LocalPlace]) -> tuple[type[LocalPlace], list[tuple[str, str]]]:
    """A kind of local place that notes each request, and the list in which it does."""
    requests: list[tuple[str, str]] = []

    def noted(name: str) -> Callable[..., Any]:
        inner = getattr(base, name)

        def call(self: LocalPlace, of: str = "", *more: Any) -> Any:
            requests.append((name, of))
            return inner(self, of, *more)

        return call

    methods = {name: noted(name) for name in ("read", "read_range", "size", "list", "folders", "write", "delete")}
    return type("CountingPlace", (base,), methods), requests
