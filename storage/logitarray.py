"""Filling an array of a teacher's logits, one Zarr shard at a time, and measuring what its codec lost of them.

Knows floats, slots and codecs; nothing of views, tasks or records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from .blockfacts import measure_block
from .codecs import LogitCodec, TransformCodec, TransformModel, logit_codec
from .errors import ModelError
from .fingerprint import Fingerprint, refuse_difference
from .layout import Layout
from .logits import TeacherInfo
from .place import Place
from .zarrstore import RecordingStore


@dataclass(frozen=True)
class LogitFiller:
    """Encodes one teacher's logits as its cache keeps them.

    Args:
        place: the cache's.
        layout: the cache's.
        name: the teacher's.
        info: attributes of its group.
        model: for the codec "transform".
        temperatures: at which each Zarr shard's loss is measured.
    """

    place: Place
    layout: Layout
    name: str
    info: TeacherInfo
    model: TransformModel | None
    temperatures: Sequence[float]

    @property
    def codec(self) -> LogitCodec:
        return logit_codec(self.info.codec, self.model)

    def encoding(self) -> dict[str, Any]:
        """What Zarr is told of how an array of logits is stored."""
        codec = self.codec
        return {
            "dtype": codec.dtype,
            "serializer": codec.serializer,
            "compressors": list(codec.compressors),
            "fill_value": float("nan"),
        }

    def rounded(self, logits: npt.NDArray[np.float32], where: str) -> npt.NDArray[Any]:
        """The same in the array's dtype.

        Raises:
            ModelError: a logit is too large for it; names `where`.
        """
        dtype = self.codec.dtype
        with np.errstate(over="ignore"):
            stored = logits.astype(dtype)
        if not np.isfinite(stored).all():
            raise ModelError(
                f"teacher {self.name!r}: a logit of {where} ({float(np.abs(logits).max()):.4g}) does not fit into "
                f'{dtype}; use cache.codec = "float32"'
            )
        return stored

    def fill(
        self,
        store: RecordingStore,
        array: Any,
        where: tuple[int | slice, ...],
        shard: str,
        logits: npt.NDArray[np.float32],
        stored: npt.NDArray[Any],
    ) -> dict[str, Any]:
        """Write one whole Zarr shard, which the store holds back.

        Args:
            store: that the array is in.
            array: of logits.
            where: the Zarr shard's extent on the axes before the slots.
            shard: its name in the store.
            logits: float32 [..., slot, class], as the teacher gave them.
            stored: the same, from `rounded`.

        Returns:
            What the encoding lost; see `blockfacts`.

        Raises:
            FingerprintError: the array is laid out for another transform.
        """
        self._refuse_other_transform(array)
        array[where] = padded(stored, -2, self.layout.slots, np.nan)
        kept = np.asarray(array[(*where, slice(logits.shape[-2]))], np.float32)
        chunk = self.layout.chunk_slots(self.info.classes)
        views = logits.shape[0] if logits.ndim == 3 else 1
        chunks = views * self.layout.shard_slots(self.info.classes) // chunk
        cut, data = (chunks, chunk), store.held(shard)
        return measure_block(self.info.codec, self.codec, data, cut, logits, kept, self.temperatures)

    def _refuse_other_transform(self, array: Any) -> None:
        """Compare the transform that the array's own metadata holds with this run's."""
        serializer = getattr(array.metadata.codecs[0], "codecs", (None,))[0]
        there = serializer.model.digest if isinstance(serializer, TransformCodec) else None
        mine = self.model.digest if self.model is not None else None
        refuse_other_teacher(self.name, self.place, {"model": there}, {"model": mine})


def writable(array: object) -> Any:
    """An array that writes every chunk: one that happens to equal the fill value is data all the same."""
    assert isinstance(array, zarr.Array)
    return array.with_config({"write_empty_chunks": True})


def padded(rows: npt.NDArray[Any], axis: int, slots: int, fill: float) -> npt.NDArray[Any]:
    """The same with its slot axis filled up."""
    missing = [(0, 0)] * rows.ndim
    missing[axis] = 0, slots - rows.shape[axis]
    return np.pad(rows, missing, constant_values=fill)


def refuse_other_teacher(name: str, place: Place, stored: Fingerprint, wanted: Fingerprint) -> None:
    """Compare two teachers of one name.

    Raises:
        FingerprintError: they differ; a codec that differs is named before what belongs to it.
    """
    remedy = "go back to the old setting, or give the new teacher another name"
    what = f"teacher {name} in cache {place}"
    if "codec" in stored and "codec" in wanted:
        refuse_difference(what, {"codec": stored["codec"]}, {"codec": wanted["codec"]}, remedy)
    refuse_difference(what, stored, wanted, remedy)
