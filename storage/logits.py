"""One teacher's arrays in a cache, for reading: logits, digests, canaries, and logits on the evaluation set.

All of it comes through the cache's checked store. Knows numbers, shards, views and slots; nothing of images or models.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from .errors import DamagedObjectError, MissingObjectError
from .fingerprint import Fingerprint, fingerprint_digest
from .layout import (
    CANARIES,
    DIGESTS,
    EVALUATION,
    LOGITS,
    Layout,
    block_task,
    canary_place,
    evaluation_task,
    teacher_folder,
)
from .ledger import Ledger


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

    """

    fingerprint: Fingerprint
    classes: int
    size: int
    codec: str
    canaries: tuple[int, ...]

    def identity(self, views: Fingerprint) -> str:
        """Digest of what a block's logits depend on, which its record carries.

        Args:
            views: fingerprint of the cache's views.
        """
        return fingerprint_digest({"teacher": self.fingerprint, "codec": self.codec, "views": views})


class TeacherLogits:
    """A teacher's arrays, for reading.

    Args:
        group: the cache's group, over a checked store.
        ledger: the cache's.
        layout: the cache's.
        name: the teacher's.

    Raises:
        MissingObjectError, DamagedObjectError: its metadata is not what a record lists.
    """

    def __init__(self, group: zarr.Group, ledger: Ledger, layout: Layout, name: str) -> None:
        self.name = name
        self.ledger = ledger
        self.layout = layout
        found = group[teacher_folder(name)]
        assert isinstance(found, zarr.Group)
        self.group = found
        stored: Any = self.group.attrs.asdict()["stillroom"]
        self.info = TeacherInfo(**{**stored, "canaries": tuple(stored["canaries"])})
        self._logits: Any = self.group[LOGITS]
        self._digests: Any = self.group[DIGESTS]

    @property
    def views(self) -> int:
        """Views that the arrays have room for; which of them are done, the ledger knows."""
        return int(min(self._logits.shape[1], self._digests.shape[1]))

    def logits(self, shard: int, view: int) -> npt.NDArray[np.float32]:
        """Logits of a view of a data shard: float32 [slot, class].

        Raises:
            MissingObjectError, DamagedObjectError: the block is not done, or not what was written.
        """
        with self._damage_named(LOGITS, shard, view):
            rows = self._logits[shard, view, : self.layout.sizes[shard]]
        return np.asarray(rows, dtype=np.float32)

    def digests(self, shard: int, view: int) -> npt.NDArray[np.uint16]:
        """Digests of a view of a data shard: uint16 [slot].

        Raises:
            MissingObjectError, DamagedObjectError: the block is not done, or not what was written.
        """
        with self._damage_named(DIGESTS, shard, view):
            return np.asarray(self._digests[shard, view, : self.layout.sizes[shard]])

    def plain(self, shard: int) -> npt.NDArray[np.float32]:
        """Logits of each sample's plain view, its centre: float32 [slot, class].

        Raises:
            MissingObjectError: the cache keeps none.
        """
        raise MissingObjectError(
            f"teacher {self.name} has no logits of plain views; set cache.plain = true and run `stillroom teacher`"
        )

    @contextmanager
    def _damage_named(self, array: str, shard: int, view: int) -> Iterator[None]:
        """An object that changed after it was first touched fails its checksums inside Zarr, which names no object."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            block = view // self.layout.views_per_block
            raise DamagedObjectError(
                f"{array} of teacher {self.name}, data shard {shard}, view {view} are damaged ({error}); "
                f"they were good when they were first read. `stillroom verify --repair` has the task "
                f"{block_task(self.name, shard, block)} done again"
            ) from error

    def canaries(self) -> list[Canary]:
        """The views that are kept whole and whose block is done."""
        if not self.info.canaries:
            return []
        array: Any = self.group[CANARIES]
        found = []
        for number, slot in enumerate(self.info.canaries):
            shard, view = canary_place(self.layout, number)
            if self.ledger.get(block_task(self.name, shard, 0)) is not None:
                found.append(Canary(shard, view, slot, np.asarray(array[number])))
        return found

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

    def evaluation(self) -> npt.NDArray[np.float32]:
        """Logits on the evaluation set: float32 [sample, class], its data shards one after another.

        Raises:
            MissingObjectError: they are not written.
        """
        if self.ledger.get(evaluation_task(self.name)) is None:
            raise MissingObjectError(
                f"teacher {self.name} has no logits on the evaluation set; run `stillroom teacher`"
            )
        array: Any = self.group[EVALUATION]
        return np.asarray(array[:])
