"""Writing one block of a teacher's logits, as they come: all of its objects at the end, and last its record.

Knows numbers, shards, views and slots; nothing of images or models.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.cache.layout import CANARIES, DIGESTS, LOGITS, block_task, teacher_folder
from stillroom.storage.cache.zarr_store import RecordingStore
from stillroom.storage.errors import MissingObjectError
from stillroom.storage.ledger.ledger import Record

from .array_encoder import padded, writable
from .loss_summary import FACTS
from .teacher import TeacherWriter


class BlockWriter:
    """Takes a block's logits in any order; holds the views that have begun, and the others encoded.

    Args:
        teacher: writer of its other arrays.
        shard, block: which.
        within: bytes of memory for the logits of one view; more are kept in a file until the view is whole.

    Raises:
        FingerprintError: the arrays are laid out for another transform.
        MissingObjectError: they are not laid out for that many views.
    """

    def __init__(self, teacher: TeacherWriter, shard: int, block: int, within: int = sys.maxsize) -> None:
        self._teacher, self._shard, self._block = teacher, shard, block
        self._count = teacher.layout.views_per_block
        self._rows = teacher.layout.sizes[shard]
        # What is written is held back until it is known what the encoding lost.
        self._store = RecordingStore(teacher.ledger.place)
        self._group = zarr.open_group(self._store, path=teacher_folder(teacher.name), mode="r+", zarr_format=3)
        logits: Any = self._group[LOGITS]
        digests: Any = self._group[DIGESTS]
        room = min(logits.shape[1], digests.shape[1])
        if room < self._views.stop:
            # Zarr would write nothing there, without a word.
            raise MissingObjectError(
                f"teacher {teacher.name!r} in {teacher.ledger.place} is laid out for {room} views, block {block} ends "
                f"at {self._views.stop}; run `stillroom teacher`, which lays it out first"
            )
        self._object = f"{logits.path}/c/{shard}/{block}/0/0"
        where = f"data shard {shard}, block {block}"
        self._logits = teacher.filler.begin(logits, self._count, self._rows, where, within)

    @property
    def task(self) -> str:
        return block_task(self._teacher.name, self._shard, self._block)

    @property
    def _views(self) -> slice:
        return slice(self._block * self._count, (self._block + 1) * self._count)

    def put(self, view: int, slots: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> None:
        """Take some rows, each once.

        Args:
            view: of the block.
            slots: int64 [n].
            logits: float32 [n, class], finite.

        Raises:
            ModelError: a logit is too large for the codec; nothing was written.
            OSError: no room for a view that does not fit into memory.
        """
        self._logits.put(view, slots, logits)

    def finish(
        self,
        digests: npt.NDArray[np.uint16],
        canaries: Mapping[int, npt.NDArray[np.uint8]],
        facts: Mapping[str, Any],
    ) -> Record:
        """Write the block's whole Zarr shards, and last its record. All logits have come.

        Args:
            digests: uint16 [view of the block, slot].
            canaries: by number, uint8 [height, width, 3].
            facts: figures for the record, which also says what the encoding lost: see `encoding_loss`.
        """
        assert digests.shape == (self._count, self._rows)
        data, lost = self._logits.finish()
        self._store.hold(self._object, data)
        where = self._shard, self._views
        writable(self._group[DIGESTS])[where] = padded(digests, 1, self._teacher.layout.slots, 0)
        for number, pixels in canaries.items():
            writable(self._group[CANARIES])[number] = pixels
        self._store.release()
        return self._teacher.finish(self.task, self._teacher.identity, self._store, {**facts, FACTS: lost})


def write_block(
    teacher: TeacherWriter,
    shard: int,
    block: int,
    logits: npt.NDArray[np.float32],
    digests: npt.NDArray[np.uint16],
    canaries: Mapping[int, npt.NDArray[np.uint8]],
    facts: Mapping[str, Any],
) -> Record:
    """Write a block whose logits are all there: float32 [view of the block, slot, class]. See `BlockWriter`."""
    writer = BlockWriter(teacher, shard, block)
    for view, rows in enumerate(logits):
        writer.put(view, np.arange(len(rows)), rows)
    return writer.finish(digests, canaries, facts)
