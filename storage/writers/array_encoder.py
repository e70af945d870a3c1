"""How one teacher's logits are encoded, and what an array that exists must be to be filled.

Knows floats, slots and codecs; nothing of views, tasks or records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.cache.layout import Layout
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.codecs.registry import TransformCodec, TransformModel, logit_codec
from stillroom.storage.ledger.fingerprint import Fingerprint, refuse_difference
from stillroom.storage.objects.base import Place

from .shard_encoder import Encoding, LogitShard


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
    def encoding(self) -> Encoding:
        layout, classes = self.layout, self.info.classes
        chunk, slots = layout.chunk_slots(classes), layout.shard_slots(classes)
        return Encoding(
            self.info.codec, logit_codec(self.info.codec, self.model), chunk, slots, classes, self.temperatures
        )

    def begin(self, array: Any, views: int, rows: int, where: str, within: int) -> LogitShard:
        """Begin a Zarr shard of an array of logits; see `LogitShard`.

        Raises:
            FingerprintError: the array is laid out for another transform.
        """
        self._refuse_other_transform(array)
        return LogitShard(self.encoding, views, rows, f"teacher {self.name!r}, {where}", within)

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
