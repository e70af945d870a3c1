"""The cache: a Zarr v3 group with the seeds of every sample and the logits of one or more teachers.

Everything is read through a store that checks each object against the ledger. Knows numbers, shards, views and slots;
nothing of images or models.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from stillroom.storage.errors import DamagedObjectError, MissingObjectError, StoreError
from stillroom.storage.ledger.fingerprint import Fingerprint, fingerprint_digest, refuse_difference
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.ledger.record import FOLDER
from stillroom.storage.ledger.sealed import REMEDY, SEALED, SEALED_TASK, DamagedSealError
from stillroom.storage.ledger.snapshot import Snapshot
from stillroom.storage.objects.base import Place
from stillroom.storage.objects.urls import open_place

from .layout import (
    MOST_SLOTS,
    MOST_VIEWS,
    SEEDS,
    SEEDS_TASK,
    TEACHERS,
    Layout,
    block_teacher,
    layouts_folder,
    teacher_folder,
    writing_tasks,
)
from .metadata import check_array, count, counts, group_attributes
from .teacher_logits import TeacherInfo, TeacherLogits
from .zarr_store import CheckedStore, RecordingStore

FORMAT, FORMAT_WITH_FEATURES = 1, 2
"""The first is all that most caches need; in the second, features are named, and those not known are refused."""
FEATURES = "features"
ELSEWHERE = "go back to the old setting, or choose another cache.dir or run.dir"


@dataclass(frozen=True)
class CacheInfo:
    """The group's attributes.

    Attributes:
        recipe: how views are drawn, as plain data.
        root_seed: 64-bit number that all seeds derive from.
        views: fingerprint of the views: data set, recipe, root seed, renderer.
        sizes: number of samples in each data shard.
        views_per_block: views in one block.
        features: what a reader must know beside the format: "sealed" for a sealed ledger.
    """

    recipe: Mapping[str, Any]
    root_seed: int
    views: Fingerprint
    sizes: tuple[int, ...]
    views_per_block: int
    features: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        return Layout(self.sizes, self.views_per_block)

    def attributes(self) -> dict[str, Any]:
        return {
            "format": FORMAT_WITH_FEATURES if self.features else FORMAT,
            **({FEATURES: list(self.features)} if self.features else {}),
            "recipe": dict(self.recipe),
            # Readers of JSON keep 53 bits of an integer; a string keeps all 64.
            "root_seed": str(self.root_seed),
            "views": dict(self.views),
            "sizes": list(self.sizes),
            "views_per_block": self.views_per_block,
        }


def create_cache(place: Place, info: CacheInfo, seeds: Iterable[npt.NDArray[np.uint64]]) -> Record:
    """Write a new cache's group and seeds, and last the record of both.

    Args:
        place: where the cache goes.
        info: its attributes.
        seeds: for each data shard in turn, uint64 [slot].

    Raises:
        StoreError: there are logits of other views, which this cache could not vouch for; nothing was written.
    """
    _refuse_to_orphan(place, info)
    if Ledger(place).sealed() is not None:
        info = replace(info, features=(SEALED_TASK,))
    store = RecordingStore(place, creates="")
    group = zarr.create_group(store, zarr_format=3, attributes={"stillroom": info.attributes()})
    group.create_group(TEACHERS)
    layout = info.layout
    chunk = layout.seeds_chunk()
    array = group.create_array(
        SEEDS,
        shape=(layout.shards, layout.slots),
        chunks=chunk,
        dtype="uint64",
        compressors=[Crc32cCodec()],
        fill_value=0,
        dimension_names=["shard", "slot"],
        config={"write_empty_chunks": True},
    )
    # An array without elements: Zarr looks for nothing below it, where it would warn of every record.
    group.create_array(
        FOLDER,
        shape=(0,),
        chunks=(1,),
        dtype="uint8",
        compressors=[],
        fill_value=0,
        dimension_names=["record"],
        attributes={"stillroom": "the folder of the ledger: records of finished tasks, which are no arrays"},
    )
    rows = iter(seeds)
    for first in range(0, layout.shards, chunk[0]):
        block = np.zeros((min(chunk[0], layout.shards - first), layout.slots), np.uint64)
        for row in block:
            values = next(rows)
            row[: len(values)] = values
        array[first : first + len(block)] = block
        store.release()
    record = Record(SEEDS_TASK, fingerprint_digest(info.views), store.written)
    Ledger(place).put(record)
    return record


def _info(store: CheckedStore, stored: Mapping[str, Any]) -> CacheInfo:
    """The group's attributes, each of its kind.

    Raises:
        StoreError: one is not.
    """
    root_seed, recipe, views = (stored.get(field) for field in ("root_seed", "recipe", "views"))
    if not (isinstance(root_seed, str) and root_seed.isdecimal() and len(root_seed) <= 20):
        raise StoreError(f"{store.place}: root_seed is {root_seed!r}, should be a number in a string")
    if not isinstance(recipe, dict) or not isinstance(views, dict):
        raise StoreError(f"{store.place}: recipe and views should be tables; this is no cache that stillroom wrote")
    sizes = counts(store, "", stored, "sizes", MOST_SLOTS)
    if not sizes:
        raise StoreError(f"{store.place} has no data shards; this is no cache that stillroom wrote")
    per_block = count(store, "", stored, "views_per_block", MOST_VIEWS)
    return CacheInfo(recipe, int(root_seed), views, sizes, per_block, tuple(stored.get(FEATURES, ())))


def _refuse_newer(place: Place, stored: Mapping[str, Any]) -> None:
    """Refuse what another version must read."""
    found, features = stored.get("format"), stored.get(FEATURES, [])
    if found not in (FORMAT, FORMAT_WITH_FEATURES):
        raise StoreError(
            f"{place} has cache format {found!r}, this stillroom reads {FORMAT} and {FORMAT_WITH_FEATURES}; "
            "use the version that wrote it"
        )
    unknown = [name for name in features if name != SEALED_TASK] if isinstance(features, list) else [features]
    if unknown:
        raise StoreError(
            f"{place} has the feature {unknown[0]!r}, which this stillroom does not know; use the version that wrote it"
        )


def _refuse_to_orphan(place: Place, info: CacheInfo) -> None:
    """After a repair of the seeds, the same cache must come back: one of other views would give up every logit."""
    ledger = Ledger(place)
    for name in ledger.folders(TEACHERS):
        laid_out = {record.fingerprint for record in ledger.records(layouts_folder(name))}
        try:
            stored = json.loads(place.read(f"{teacher_folder(name)}/zarr.json"))["attributes"]["stillroom"]
            teacher = TeacherInfo(**{**stored, "canaries": tuple(stored["canaries"])})
        except (MissingObjectError, ValueError, KeyError, TypeError):
            continue  # damaged itself, so that it cannot be told
        if laid_out and teacher.identity(info.views) not in laid_out:
            raise StoreError(
                f"{place} holds logits of teacher {name!r} that are of other views than this run's: of other data, "
                "recipe, seed, or version of the renderer; go back to those that made them, or choose another cache.dir"
            )


def open_cache(url: str) -> "Cache":
    """The cache at a path or URL; see `Cache`."""
    return Cache(open_place(url))


class Cache:
    """A cache that is there.

    Args:
        place: where it is.

    Raises:
        MissingObjectError: there is none, or its seeds are not written.
        StoreError: another version of stillroom wrote it.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.ledger = Ledger(place)
        self._records: dict[str, Record] = {}
        self._identities: dict[str, str] = {}
        self._listed: dict[str, list[str]] = {}
        self._layout: Layout | None = None
        self._sealed: Snapshot | None = None
        record = self._record(SEEDS_TASK)
        if record is None:
            raise MissingObjectError(f"{place} holds no finished cache; run `stillroom seeds` first")
        store = CheckedStore(place, self._expect)
        stored = group_attributes(store, "")
        _refuse_newer(place, stored)
        self.info = _info(store, stored)
        # What is sealed is read at once for many tasks.
        self._sealed = self.ledger.snapshot() if SEALED_TASK in self.info.features else None
        if self._sealed is not None and self._sealed.sealed is None:
            raise DamagedSealError(f"{place}/{SEALED} is missing; {REMEDY}")
        if fingerprint_digest(self.info.views) != record.fingerprint:
            raise DamagedObjectError(f"the record {place}/{self.ledger.name(SEEDS_TASK)} is of a cache of other views")
        layout = self.layout = self._layout = self.info.layout
        group_attributes(store, TEACHERS, stated=False)
        check_array(store, SEEDS, {"shard": layout.shards, "slot": layout.slots}, layout.seeds_chunk(), ["uint64"])
        self.group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)

    @cached_property
    def _seeds(self) -> Any:
        """Opened once: a student asks for the seeds of every data shard."""
        return self.group[SEEDS]

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the teachers whose arrays are laid out, finished or not; not those that were stopped in that."""
        found = []
        for name in self.ledger.folders(TEACHERS):
            try:
                if self._has_record(name):
                    found.append(self.teacher(name).name)
            except MissingObjectError:
                continue
        return tuple(found)

    def seeds(self, shard: int) -> npt.NDArray[np.uint64]:
        """Seeds of a data shard: uint64 [slot], as many as it has samples."""
        try:
            return np.asarray(self._seeds[shard, : self.layout.sizes[shard]])
        except (ValueError, RuntimeError) as error:
            raise DamagedObjectError(
                f"the seeds of data shard {shard} in {self.place} are damaged, and their record with them ({error}); "
                "`stillroom verify --repair` has them written again"
            ) from error

    def teacher(self, name: str) -> TeacherLogits:
        """A teacher's arrays.

        Raises:
            MissingObjectError: the cache holds none of that name.
        """
        if not self._has_record(name):
            known = ", ".join(self.teachers) or "none"
            raise MissingObjectError(f"{self.place} has no teacher {name!r} (it has: {known}); run `stillroom teacher`")
        found = TeacherLogits(self.group, self.ledger, self.layout, name, self.info.views)
        if found.identity not in {record.fingerprint for record in self.ledger.records(layouts_folder(name))}:
            raise DamagedObjectError(
                f"the metadata of teacher {name!r} in {self.place} is of a cache of other views; "
                "run `stillroom verify --repair`, then `stillroom teacher`"
            )
        self._identities[name] = found.identity
        return found

    def refuse_other_views(self, wanted: Fingerprint, *, except_for: Collection[str] = ()) -> None:
        """Compare what the views were made from with what this run would make them from.

        Args:
            wanted: this run's fingerprint.
            except_for: top-level fields that may differ.

        Raises:
            FingerprintError: they differ elsewhere.
        """
        stored = {key: value for key, value in self.info.views.items() if key not in except_for}
        wanted = {key: value for key, value in wanted.items() if key not in except_for}
        refuse_difference(f"cache {self.place}", stored, wanted, ELSEWHERE)

    def _has_record(self, teacher: str) -> bool:
        return any(self.ledger.tasks(layouts_folder(teacher)))

    def _record(self, task: str, *, afresh: bool = False) -> Record | None:
        """A record, read once unless asked for afresh; one that is not there yet is looked for again."""
        if afresh or task not in self._records:
            record = self._sealed.get(task) if self._sealed is not None and not afresh else None
            record = record or self.ledger.get(task)
            if record is None:
                return None
            self._refuse_foreign(record)
            self._records[task] = record
        return self._records[task]

    def _refuse_foreign(self, record: Record) -> None:
        """A block's record vouches for nothing in a cache of other views, or of another teacher of that name."""
        teacher = block_teacher(record.task)
        expected = self._identities.get(teacher) if teacher is not None else None
        if expected is not None and record.fingerprint != expected:
            raise DamagedObjectError(
                f"the record {self.place}/{self.ledger.name(record.task)} is of other views, or of another teacher "
                "than this cache's; run `stillroom teacher` to do the task again"
            )

    def _layouts(self, folder: str, *, afresh: bool) -> list[str]:
        """Tasks that laid arrays out, listed once: every object of metadata asks for them."""
        if afresh or not self._listed.get(folder):
            self._listed[folder] = list(self.ledger.tasks(folder))
        return self._listed[folder]

    def _expect(self, name: str, *, afresh: bool = False) -> list[ObjectDigest]:
        """What the ledger says of an object. Metadata may have as many forms as there are layouts."""
        tasks = writing_tasks(self._layout, name) if self._layout is not None else (SEEDS_TASK, SEALED_TASK)
        named: list[str] = []
        for task in tasks:
            named += self._layouts(task.rstrip("/"), afresh=afresh) if task.endswith("/") else [task]
        found = (self._record(task, afresh=afresh) for task in named)
        records = [record for record in found if record is not None]
        forms = [record.objects[name] for record in records if name in record.objects]
        if not forms:
            task = ", ".join(tasks) or "no task"
            raise MissingObjectError(
                f"the ledger of {self.place} does not list {name} (written by: {task}); "
                "run the stage that writes it, or `stillroom verify` to see what is wrong"
            )
        return forms
