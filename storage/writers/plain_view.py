"""Writing a teacher's logits of plain views: one task lays the array out, and one for each data shard fills it.

Knows numbers, shards and slots; nothing of images or models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.cache.layout import plain_folder, plain_layout_task, plain_task
from stillroom.storage.cache.plain_logits import CROP, plain_fingerprint
from stillroom.storage.cache.zarr_store import METADATA, RecordingStore
from stillroom.storage.errors import MissingObjectError
from stillroom.storage.ledger.fingerprint import fingerprint_digest, refuse_difference
from stillroom.storage.ledger.ledger import Record
from stillroom.storage.objects.base import Place

from .array_encoder import writable
from .loss_summary import FACTS
from .teacher import TeacherWriter


@dataclass(frozen=True)
class PlainWriter:
    """Writes one teacher's logits of plain views.

    Args:
        teacher: writer of its other arrays.
        crop: side of the centred square, as a share of the image's shorter side.
    """

    teacher: TeacherWriter
    crop: float

    def lay_out(self) -> Record:
        """Write the metadata of the array."""
        layout, classes = self.teacher.layout, self.teacher.info.classes
        # As the root of a store of its own, it needs no metadata of the group above, which another task writes.
        folder = plain_folder(self.teacher.name)
        store = RecordingStore(self.teacher.ledger.place.at(folder), creates="")
        zarr.create_array(
            store,
            shape=(layout.shards, layout.slots, classes),
            shards=(1, layout.shard_slots(classes), classes),
            chunks=(1, layout.chunk_slots(classes), classes),
            dimension_names=["shard", "slot", "class"],
            attributes={"stillroom": {CROP: self.crop}},
            **self.teacher.filler.encoding.zarr_kwargs(),
        )
        store.release()
        written = {f"{folder}/{name}": item for name, item in store.written.items()}
        record = Record(plain_layout_task(self.teacher.name), self.identity, written)
        self.teacher.ledger.put(record)
        return record

    def write(self, shard: int, logits: npt.NDArray[np.float32], facts: Mapping[str, Any]) -> Record:
        """Write one data shard's whole Zarr shard, and last its record.

        Args:
            shard: which.
            logits: float32 [slot, class], finite.
            facts: figures for the record, which also says what the encoding lost: see `encoding_loss`.

        Raises:
            ModelError: a logit is too large for the codec.
            MissingObjectError: the array is not laid out.
            FingerprintError: it is laid out for another crop or transform.

        Whatever is raised, nothing was written.
        """
        writer, folder = self.teacher, plain_folder(self.teacher.name)
        assert logits.shape == (writer.layout.sizes[shard], writer.info.classes)
        place = writer.ledger.place
        if place.size(f"{folder}/{METADATA}") is None:
            raise MissingObjectError(
                f"teacher {writer.name!r} in {place} is not laid out for plain views; "
                "run `stillroom teacher`, which lays them out first"
            )
        store = RecordingStore(place)
        array = writable(zarr.open_array(store, path=folder, mode="r+", zarr_format=3))
        refuse_other_crop(writer.name, place, array.attrs["stillroom"][CROP], self.crop)
        coming = writer.filler.begin(array, 1, len(logits), f"data shard {shard}, plain views", logits.nbytes)
        coming.put(0, np.arange(len(logits)), logits)
        data, lost = coming.finish()
        store.hold(f"{folder}/c/{shard}/0/0", data)
        store.release()
        record = Record(plain_task(writer.name, shard), self.identity, store.written, {**facts, FACTS: lost})
        writer.ledger.put(record)
        return record

    @property
    def identity(self) -> str:
        """Digest of what the logits depend on, which each record carries."""
        return fingerprint_digest(plain_fingerprint(self.teacher.identity, self.crop))


def refuse_other_crop(name: str, place: Place, stored: float, wanted: float) -> None:
    """Compare the crop of the plain views in a cache with this run's.

    Raises:
        FingerprintError: they differ.
    """
    remedy = "go back to the old setting, or set cache.plain = false, or choose another cache.dir"
    refuse_difference(f"plain views of teacher {name} in cache {place}", {CROP: stored}, {CROP: wanted}, remedy)
