"""One teacher's arrays in a cache, for reading: logits, digests, canaries, logits on the evaluation set, plain views.

All of it comes through the cache's checked store. Knows numbers, shards, views and slots; nothing of images or models.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.errors import DamagedChunkError, DamagedObjectError, MissingObjectError, StoreError
from stillroom.storage.ledger.fingerprint import Fingerprint, fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger

from .layout import (
    CANARIES,
    DIGESTS,
    EVALUATION,
    LOGITS,
    MOST_CLASSES,
    MOST_PIXELS,
    MOST_VIEWS,
    PLAIN,
    Layout,
    block_task,
    canary_place,
    evaluation_task,
    plain_task,
    teacher_folder,
)
from .metadata import Extent, check_array, count, counts, group_attributes
from .plain_logits import PlainLogits
from .zarr_store import CheckedStore

_SAMPLES = range(1, 2**26)


@dataclass(frozen=True)
class Canary:
    """A view that is kept whole.

    Attributes:
        shard, view, slot: which view it is.
        pixels: uint8 [height, width, 3], as the teacher saw it before mixing.
    """

    shard: int
    view: int
    slot: int
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TeacherInfo:
    """Attributes of a teacher's group.

    Attributes:
        fingerprint: architecture, weights, preprocessing, precision, size.
        classes: extent of the class axis.
        size: height and width of its views in pixels.
        codec: how its logits are stored.
        canaries: slot of each canary; data shard and view follow from its number.
        transform: for the codec of that name: "model", the fitted model's digest, and "cache", the settings that it
            was fitted with; else empty.
    """

    fingerprint: Fingerprint
    classes: int
    size: int
    codec: str
    canaries: tuple[int, ...]
    transform: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoding(self) -> Fingerprint:
        """How its logits are stored, to be compared: the codec, and what a transform was fitted with."""
        return {"codec": self.codec, **self.transform}

    def identity(self, views: Fingerprint) -> str:
        """Digest of what a block's logits depend on, which its record carries.

        Args:
            views: fingerprint of the cache's views.
        """
        return fingerprint_digest({"teacher": self.fingerprint, **self.encoding, "views": views})


class TeacherLogits:
    """A teacher's arrays, for reading.

    Args:
        group: the cache's group, over a checked store.
        ledger: the cache's.
        layout: the cache's.
        name: the teacher's.
        views: fingerprint of the cache's views.

    Raises:
        MissingObjectError, DamagedObjectError: its metadata is not what a record lists.
    """

    def __init__(self, group: zarr.Group, ledger: Ledger, layout: Layout, name: str, views: Fingerprint) -> None:
        self.name = name
        self.ledger = ledger
        self.layout = layout
        store = group.store
        assert isinstance(store, CheckedStore)
        self.info = _info(store, layout, name)
        self.identity = self.info.identity(views)
        self._plain = PlainLogits(group, ledger, layout, name, self.info.classes, self.identity)
        _check_arrays(store, layout, name, self.info)
        try:
            found = group[teacher_folder(name)]
            assert isinstance(found, zarr.Group)
            self.group = found
            self._logits: Any = self.group[LOGITS]
            self._digests: Any = self.group[DIGESTS]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"teacher {name}: its arrays cannot be opened: {error}") from error

    @property
    def views(self) -> int:
        """Views that the arrays have room for; which of them are done, the ledger knows."""
        return int(min(self._logits.shape[1], self._digests.shape[1]))

    def logits(self, shard: int, view: int) -> npt.NDArray[np.float32]:
        """Logits of a view of a data shard: float32 [slot, class].

        Raises:
            MissingObjectError, DamagedObjectError: the block is not done, or not what was written.
        """
        with self._view_damage_named(LOGITS, shard, view):
            rows = self._logits[shard, view, : self.layout.sizes[shard]]
        return np.asarray(rows, dtype=np.float32)

    def digests(self, shard: int, view: int) -> npt.NDArray[np.uint16]:
        """Digests of a view of a data shard: uint16 [slot].

        Raises:
            MissingObjectError, DamagedObjectError: the block is not done, or not what was written.
        """
        with self._view_damage_named(DIGESTS, shard, view):
            return np.asarray(self._digests[shard, view, : self.layout.sizes[shard]])

    def _view_damage_named(self, array: str, shard: int, view: int) -> AbstractContextManager[None]:
        task = block_task(self.name, shard, view // self.layout.views_per_block)
        return self._damage_named(f"{array}, data shard {shard}, view {view}", task)

    @contextmanager
    def _damage_named(self, what: str, task: str) -> Iterator[None]:
        """Bytes that pass for the recorded ones may still fail Zarr's checksums, which name no object.

        So it is with an object that changed after it was first touched, or together with its record.
        """
        try:
            yield
        except (ValueError, RuntimeError, DamagedChunkError) as error:
            raise DamagedObjectError(
                f"teacher {self.name}: {what}, is damaged ({error}); it has changed since it was first read, or its "
                f"record with it. `stillroom verify --repair` has the task {task} done again"
            ) from error

    def canaries(self) -> list[Canary]:
        """The views that are kept whole and whose block is done."""
        if not self.info.canaries:
            return []
        shards = [canary_place(self.layout, number)[0] for number in range(len(self.info.canaries))]
        finished = {shard for shard in set(shards) if self.ledger.get(block_task(self.name, shard, 0)) is not None}
        return [self.canary(number) for number, shard in enumerate(shards) if shard in finished]

    def canary(self, number: int) -> Canary:
        """One of them.

        Raises:
            MissingObjectError, DamagedObjectError: its block is not done, or it is not what was written.
        """
        shard, view = canary_place(self.layout, number)
        array: Any = self.group[CANARIES]
        with self._damage_named(f"{CANARIES}[{number}]", block_task(self.name, shard, 0)):
            return Canary(shard, view, self.info.canaries[number], np.asarray(array[number]))

    def missing(self, views: int) -> list[tuple[int, int]]:
        """(data shard, block) of what is not done among the first `views` views."""
        finished = set(self.ledger.tasks(f"{teacher_folder(self.name)}/blocks"))
        blocks = -(-views // self.layout.views_per_block)
        every = [(shard, block) for block in range(blocks) for shard in range(self.layout.shards)]
        return [(shard, block) for shard, block in every if block_task(self.name, shard, block) not in finished]

    def finished_views(self) -> int:
        """How many views, from the first on, are done in every data shard."""
        missing = [block for _, block in self.missing(self.views)]
        return min(missing, default=self.views // self.layout.views_per_block) * self.layout.views_per_block

    def plain(self, shard: int) -> npt.NDArray[np.float32]:
        """Logits of the plain views of a data shard: float32 [slot, class]. See `plain_logits`.

        Raises:
            MissingObjectError, DamagedObjectError: they are not done, or not what was written.
        """
        with self._damage_named(f"{PLAIN}, data shard {shard}", plain_task(self.name, shard)):
            return self._plain.read(shard)

    def missing_plain(self) -> list[int]:
        """Data shards whose plain views are not done."""
        return self._plain.missing()

    def plain_crop(self) -> float | None:
        """The `data.eval_crop` that its plain views are of; None where there are none."""
        return self._plain.crop()

    def evaluation(self) -> npt.NDArray[np.float32]:
        """Logits on the evaluation set: float32 [sample, class], its data shards one after another.

        Raises:
            MissingObjectError: they are not written.
        """
        if self.ledger.get(evaluation_task(self.name)) is None:
            raise MissingObjectError(
                f"teacher {self.name} has no logits on the evaluation set; run `stillroom teacher`"
            )
        store, path = self.group.store, f"{teacher_folder(self.name)}/{EVALUATION}"
        assert isinstance(store, CheckedStore)
        classes = self.info.classes
        check_array(store, path, {"sample": _SAMPLES, "class": classes}, (_SAMPLES, classes), ["float32"])
        array: Any = self.group[EVALUATION]
        with self._damage_named(EVALUATION, evaluation_task(self.name)):
            return np.asarray(array[:])


def _info(store: CheckedStore, layout: Layout, name: str) -> TeacherInfo:
    """The group's attributes, each of its kind.

    Raises:
        StoreError: one is not.
    """
    group = teacher_folder(name)
    stored = group_attributes(store, group)
    fingerprint, codec, transform = stored.get("fingerprint"), stored.get("codec"), stored.get("transform", {})
    if not isinstance(fingerprint, dict) or not isinstance(codec, str) or not isinstance(transform, dict):
        raise StoreError(f"{store.place}/{group}: fingerprint and transform should be tables and codec a string")
    return TeacherInfo(
        fingerprint,
        count(store, group, stored, "classes", MOST_CLASSES),
        count(store, group, stored, "size", MOST_PIXELS),
        codec,
        counts(store, group, stored, "canaries", layout.slots - 1, least=0),
        transform,
    )


def _check_arrays(store: CheckedStore, layout: Layout, name: str, info: TeacherInfo) -> None:
    """Refuse arrays that the layout does not give."""
    folder, block, size, classes = teacher_folder(name), layout.views_per_block, info.size, info.classes
    # Zarr shards hold all slots, rounded up to whole chunks.
    slots = range(layout.slots, 2 * layout.slots + 1)
    extents: dict[str, Extent] = {"shard": layout.shards, "view": range(0, MOST_VIEWS + 1, block), "slot": layout.slots}
    check_array(
        store,
        f"{folder}/{LOGITS}",
        {**extents, "class": classes},
        (1, block, slots, classes),
        ["float16", "float32"],
        inner=(1, 1, range(1, slots.stop), classes),
    )
    check_array(store, f"{folder}/{DIGESTS}", extents, (1, block, layout.slots), ["uint16"])
    canaries: dict[str, Extent] = {"canary": len(info.canaries), "height": size, "width": size, "channel": 3}
    check_array(store, f"{folder}/{CANARIES}", canaries, (1, size, size, 3), ["uint8"])
