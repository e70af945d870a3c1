"""The life of a cache at the level of storage, and a model of it in memory.

Tasks, claims, records, arrays, objects' check, repair and garbage are the real ones; what is left out is what needs
images: ingest's judging of them, rendering, models, and the parts of `verify` that make views again.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.stages.maintenance.garbage import Leftover, collect
from stillroom.stages.run.places import holdings
from stillroom.stages.verify.findings import Failure
from stillroom.stages.verify.objects import check_objects
from stillroom.stages.verify.repair import repair
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import SEEDS_TASK, block_task, claim_of_task, layout_task
from stillroom.storage.dataset.dataset import (
    DESCRIPTION,
    JOINED,
    REJECTED,
    WHOLE_TASK,
    Description,
    contents_digest,
    index_name,
    ingest_task,
    shard_name,
)
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.dataset.webdataset import pack
from stillroom.storage.errors import StillroomError
from stillroom.storage.ledger.claims import Claim, Claims
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.ledger.record import LEDGER_NODE
from stillroom.storage.objects.base import Place

from . import plaincache
from .dying import as_another_process

Task = tuple[str, str]
"""Name of a holding, and of a task in its ledger."""
SHARDS = range(len(plaincache.SIZES))


@dataclass
class Life:
    """A data set and a cache in a folder.

    Attributes:
        folder: of the run.
        views: that each teacher is to have.
        teachers: their names.
        harmed: by holding and object, digest of what a fault left there; None where it was deleted.
    """

    folder: Path
    views: int = 2
    teachers: tuple[str, ...] = ("t",)
    harmed: dict[tuple[str, str], str | None] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return parse_config({"run": {"dir": str(self.folder)}, "data": {"train": "no images"}, "student": []})

    def place(self, holding: str) -> Place:
        return {"train": self.config.data_place, "cache": self.config.cache_place}[holding]

    # What there is to do

    def tasks(self) -> list[Task]:
        """All tasks, in an order in which they can be done."""
        found = [("train", ingest_task(shard)) for shard in SHARDS] + [("train", WHOLE_TASK), ("cache", SEEDS_TASK)]
        found += [("cache", layout_task(teacher, self.views)) for teacher in self.teachers]
        for teacher in self.teachers:
            blocks = range(self.views // plaincache.BLOCK)
            found += [("cache", block_task(teacher, shard, block)) for block in blocks for shard in SHARDS]
        return found

    def done(self) -> set[Task]:
        """Tasks whose record is there, good or damaged."""
        return {(name, task) for name in ("train", "cache") for task in Ledger(self.place(name)).tasks()}

    def next_tasks(self) -> list[Task]:
        """Those that can be done now: earlier ones are done."""
        done = self.done()
        left = [task for task in self.tasks() if task not in done or not self._has_room(task)]
        if not left:
            return []
        stage = self._stage(left[0])
        return [task for task in left if self._stage(task) == stage]

    def _has_room(self, task: Task) -> bool:
        """As the stage sees it, a layout whose record is there but that a kill left half replaced is not done."""
        if "/layout/" not in task[1]:
            return True
        try:
            return Cache(self.place("cache")).teacher(task[1].split("/")[1]).views >= self.views
        except StillroomError:
            return True  # damage, which a repair is for

    def _stage(self, task: Task) -> tuple[str, str]:
        """Blocks wait for all layouts, the description for all indexes."""
        holding, name = task
        return holding, "layout" if "/layout/" in name else name.split("/")[0]

    def do(self, task: Task) -> None:
        """Do a task as an executor does: under a claim, unless it is done."""
        holding, name = task
        place = self.place(holding)
        with as_another_process(), Claims().taken(place, claim_of_task(name)) as claim:
            assert isinstance(claim, Claim), f"{name} is still claimed by the dead: {claim}"
            self._write(place, task)
            claim.settle(name)

    def _write(self, place: Place, task: Task) -> None:
        holding, name = task
        if holding == "train":
            _ingest(place, name)
        elif name == SEEDS_TASK:
            plaincache.create(place)
        else:
            _, teacher, kind, rest = name.split("/")
            if kind == "blocks":
                Cache(place).teacher(teacher)  # a stage opens it, and refuses what is damaged
            its = plaincache.writer(place, teacher, self.views)
            if kind == "layout":
                its.lay_out()
            else:
                shard, block = (int(number) for number in rest.split("."))
                plaincache.write_block(its, shard, block)

    # Faults

    def objects(self) -> list[tuple[str, str]]:
        """Everything that lies there whole, claims apart: by holding and name."""
        found = [(holding, name) for holding in ("train", "cache") for name in self.place(holding).list()]
        return [item for item in found if "/.partial-" not in f"/{item[1]}" and not item[1].endswith(".claim")]

    def corrupt(self, item: tuple[str, str], at: int, bit: int) -> None:
        place = self.place(item[0])
        data = bytearray(place.read(item[1]))
        data[at % len(data)] ^= 1 << bit
        place.write(item[1], bytes(data))
        self.harmed[item] = _sha(bytes(data))

    def delete(self, item: tuple[str, str]) -> None:
        self.place(item[0]).delete(item[1])
        if not is_record(item[1]):  # without its record, a task is not done, which is no damage
            self.harmed[item] = None

    def still_harmed(self) -> set[tuple[str, str]]:
        """What no task has written again since, and some record lists, or is itself a record."""
        for item, left in list(self.harmed.items()):
            if _digest(self.place(item[0]), item[1]) != left:
                del self.harmed[item]
        listed = {(name, key) for name in ("train", "cache") for key in self._listed(name)}
        return {item for item in self.harmed if item in listed or is_record(item[1])}

    def _listed(self, holding: str) -> Iterator[str]:
        ledger = Ledger(self.place(holding))
        for task in ledger.tasks():
            if (holding, ledger.name(task)) not in self.harmed:
                record = ledger.get(task)
                assert record is not None
                yield from record.objects

    # What is promised

    def verify(self) -> list[Failure]:
        """The part of the check that needs no images."""
        held = [holding for holding in holdings(self.config) if holding.name in ("train", "cache")]
        done = {name for name, _ in self.done()}
        return [item for holding in held if holding.name in done for item in check_objects(holding, 0, 1).failures]

    def repair(self, redo: Collection[Task]) -> None:
        with as_another_process():
            repair(self.config, sorted(redo))

    def mend(self) -> None:
        """Verify, repair, collect garbage and do what is left."""
        self.repair({failure.redo for failure in self.verify() if failure.redo})
        self.garbage()
        self.resume()

    def garbage(self) -> list[Leftover]:
        return list(collect(self.config))

    def resume(self) -> None:
        while ready := self.next_tasks():
            for task in ready:
                self.do(task)

    def content(self) -> dict[str, str]:
        """All files; but which layouts a cache went through is its own history."""
        found = {f"{holding}: {name}": _digest(self.place(holding), name) or "" for holding, name in self.files()}
        return {name: value for name, value in found.items() if "/layout/" not in name}

    def files(self) -> list[tuple[str, str]]:
        return [(holding, name) for holding in ("train", "cache") for name in self.place(holding).list()]


@lru_cache(maxsize=64)
def as_new(views: int, teachers: tuple[str, ...]) -> dict[str, str]:
    """Content of a run to which nothing ever happened."""
    with TemporaryDirectory() as folder:
        life = Life(Path(folder), views, teachers)
        life.resume()
        return life.content()


def _ingest(place: Place, name: str) -> None:
    if name != WHOLE_TASK:
        shard = int(name.rpartition("/")[2])
        tar, index = _samples(shard)
        _finish(place, name, {shard_name(shard): tar, index_name(shard): index.to_parquet()}, {})
        return
    indexes = [_samples(shard)[1] for shard in SHARDS]
    names = tuple(shard_name(shard) for shard in SHARDS)
    classes = ("a", "b")
    stated = Description(
        classes, names, plaincache.SIZES, tuple(SHARDS), 0, contents_digest(indexes, classes), {"data.train": "made up"}
    )
    joined = {index_name(shard): ObjectDigest.of(index.to_parquet()).digest for shard, index in enumerate(indexes)}
    _finish(place, name, {REJECTED: b"\n", DESCRIPTION: stated.to_json()}, {JOINED: joined})


def _finish(place: Place, task: str, objects: dict[str, bytes], facts: dict[str, object]) -> None:
    for name, data in objects.items():
        place.write(name, data)
    Ledger(place).put(Record(task, "made up", {name: ObjectDigest.of(data) for name, data in objects.items()}, facts))


@lru_cache(maxsize=8)
def _samples(shard: int) -> tuple[bytes, ShardIndex]:
    keys = tuple(f"{shard}-{slot}" for slot in range(plaincache.SIZES[shard]))
    numbers = np.arange(len(keys))
    tar = pack((key, {"jpg": key.encode(), "cls": b"0"}) for key in keys)[:]
    return tar, ShardIndex(
        uid=plaincache.seeds_of(shard),
        key=keys,
        label=np.zeros(len(keys), np.int32),
        offset=512 + 2048 * numbers,
        size=np.full(len(keys), 3),
        height=np.full(len(keys), 8, np.int32),
        width=np.full(len(keys), 8, np.int32),
        digest=plaincache.seeds_of(shard),
    )


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_record(name: str) -> bool:
    return name.startswith("ledger/") and name != LEDGER_NODE


def _digest(place: Place, name: str) -> str | None:
    return _sha(place.read(name)) if place.size(name) is not None else None
