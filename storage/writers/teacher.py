"""Writing one teacher's arrays, a task at a time: objects first, the record last. Blocks are written by `block`.

Knows numbers, shards, views and slots; nothing of images or models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.cache.layout import (
    CANARIES,
    CHUNK_LIMIT,
    DIGESTS,
    EVALUATION,
    LOGITS,
    Layout,
    canary_place,
    evaluation_task,
    layout_task,
    layouts_folder,
    teacher_folder,
)
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.cache.zarr_store import RecordingStore
from stillroom.storage.codecs.registry import TransformModel
from stillroom.storage.ledger.fingerprint import Fingerprint, fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger, Record

from .array_encoder import LogitFiller, refuse_other_teacher


@dataclass(frozen=True)
class TeacherWriter:
    """Writes one teacher's arrays, a task at a time.

    Args:
        ledger: of the cache that holds them.
        layout: the cache's.
        name: the teacher's.
        info: attributes of its group.
        made_from: fingerprint of the cache's views.
        views: views to be written in all.
        model: for the codec "transform".
        temperatures: at which each block's loss is measured.
    """

    ledger: Ledger
    layout: Layout
    name: str
    info: TeacherInfo
    made_from: Fingerprint
    views: int
    model: TransformModel | None = None
    temperatures: Sequence[float] = (1.0,)

    def lay_out(self) -> Record:
        """Write the metadata of the arrays, large enough for all views.

        Where a cache grows, the record goes first: while the metadata is being replaced, its old and its new form are
        both good.
        """
        grows = any(self.ledger.tasks(layouts_folder(self.name)))
        store = RecordingStore(self.ledger.place, creates=teacher_folder(self.name))
        attributes = {
            "fingerprint": dict(self.info.fingerprint),
            "classes": self.info.classes,
            "size": self.info.size,
            "codec": self.info.codec,
            "canaries": list(self.info.canaries),
            **({"transform": dict(self.info.transform)} if self.info.transform else {}),
        }
        group = zarr.create_group(
            store, zarr_format=3, path=teacher_folder(self.name), attributes={"stillroom": attributes}
        )
        shards, slots, block = self.layout.shards, self.layout.slots, self.layout.views_per_block
        group.create_array(
            LOGITS,
            shape=(shards, self.views, slots, self.info.classes),
            shards=(1, block, self.layout.shard_slots(self.info.classes), self.info.classes),
            chunks=(1, 1, self.layout.chunk_slots(self.info.classes), self.info.classes),
            dimension_names=["shard", "view", "slot", "class"],
            **self.filler.encoding.zarr_kwargs(),
        )
        group.create_array(
            DIGESTS,
            shape=(shards, self.views, slots),
            chunks=(1, block, slots),
            dtype="uint16",
            compressors=[zarr.codecs.Crc32cCodec()],
            fill_value=0,
            dimension_names=["shard", "view", "slot"],
        )
        size = self.info.size
        group.create_array(
            CANARIES,
            shape=(len(self.info.canaries), size, size, 3),
            chunks=(1, size, size, 3),
            dtype="uint8",
            compressors=[zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
            fill_value=0,
            dimension_names=["canary", "height", "width", "channel"],
        )
        if not grows:
            store.release()
        record = self.finish(layout_task(self.name, self.views), self.identity, store, {})
        if grows:
            store.release()
        return record

    def write_evaluation(
        self, fingerprint: Fingerprint, logits: npt.NDArray[np.float32], facts: Mapping[str, Any]
    ) -> Record:
        """Write the logits on the evaluation set: float32 [sample, class]."""
        name = f"{teacher_folder(self.name)}/{EVALUATION}"
        store = RecordingStore(self.ledger.place, creates=name)
        array = zarr.create_array(
            store,
            name=name,
            shape=logits.shape,
            chunks=(max(1, min(len(logits), CHUNK_LIMIT // (4 * logits.shape[1]))), logits.shape[1]),
            dtype="float32",
            compressors=[zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
            fill_value=float("nan"),
            dimension_names=["sample", "class"],
        )
        array[:] = logits
        store.release()
        return self.finish(evaluation_task(self.name), fingerprint_digest(fingerprint), store, facts)

    def canaries_of(self, shard: int, block: int) -> Sequence[tuple[int, int, int]]:
        """Canaries that a block keeps: (number, view of the block, slot)."""
        places = [(number, *canary_place(self.layout, number)) for number in range(len(self.info.canaries))]
        return [(n, view, self.info.canaries[n]) for n, s, view in places if s == shard and block == 0]

    def refuse_other_teacher(self, stored: TeacherInfo) -> None:
        """Compare what is in the cache under this name with what this run would write.

        Raises:
            FingerprintError: they differ.
        """
        mine, theirs = ({**info.fingerprint, **info.encoding} for info in (self.info, stored))
        refuse_other_teacher(self.name, self.ledger.place, theirs, mine)

    @property
    def identity(self) -> str:
        """Digest of what the logits depend on, which each block's record carries."""
        return self.info.identity(self.made_from)

    @property
    def filler(self) -> LogitFiller:
        """How logits are encoded."""
        return LogitFiller(self.ledger.place, self.layout, self.name, self.info, self.model, self.temperatures)

    def finish(self, task: str, fingerprint: str, store: RecordingStore, facts: Mapping[str, Any]) -> Record:
        """Put down the record of a task whose objects are written."""
        record = Record(task, fingerprint, store.written, facts)
        self.ledger.put(record)
        return record
