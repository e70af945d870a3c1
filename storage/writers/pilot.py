"""A teacher's pilot in a cache: its answers to a few views, asked first, and the transform that was fitted to them.

Both are kept as arrays beside the teacher's others, checked like them. Knows numbers and places of rows; nothing of
images or models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import CHUNK_LIMIT, PILOT, pilot_task, teacher_folder
from stillroom.storage.cache.metadata import Extent, check_array
from stillroom.storage.cache.zarr_store import CheckedStore, RecordingStore
from stillroom.storage.codecs.registry import TransformModel
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger.ledger import Ledger, Record

_LOGITS, _PLACES, _MODEL = "logits", "places", "model"
_ROWS, _CLASSES, _BYTES = range(1, 10**7), range(1, 10**7), range(1, 2**30)


@dataclass(frozen=True)
class Pilot:
    """A teacher's answers to a few views.

    Attributes:
        logits: float32 [row, class].
        places: int32 [row, 3], data shard, slot and view of each row.
    """

    logits: npt.NDArray[np.float32]
    places: npt.NDArray[np.int32]

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """A number for each row's sample: int64 [row]. Views of one sample are never both fitted and measured."""
        return self.places[:, 0].astype(np.int64) << 32 | self.places[:, 1]


def write_pilot(
    ledger: Ledger, teacher: str, fingerprint: str, pilot: Pilot, model: TransformModel, facts: Mapping[str, Any]
) -> Record:
    """Write a pilot and its model, and last the record of both.

    Args:
        ledger: of the cache.
        teacher: its name.
        fingerprint: digest of what both were made from.
        pilot: the answers.
        model: what was fitted to them.
        facts: figures for the record.
    """
    folder = f"{teacher_folder(teacher)}/{PILOT}"
    # A store of its own: Zarr would write metadata of the teacher's group too, which is the layout's to write.
    store = RecordingStore(ledger.place.at(folder), creates="")
    group = zarr.create_group(store, zarr_format=3)
    data = np.frombuffer(model.to_bytes(), np.uint8)
    rows, classes = pilot.logits.shape
    many = max(1, min(rows, CHUNK_LIMIT // (4 * classes)))
    for name, values, chunks, dimensions in (
        (_LOGITS, pilot.logits, (many, classes), ["row", "class"]),
        (_PLACES, pilot.places, (rows, 3), ["row", "place"]),
        (_MODEL, data, (len(data),), ["byte"]),
    ):
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=chunks,
            dtype=values.dtype,
            compressors=[zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
            fill_value=0,
            dimension_names=dimensions,
            config={"write_empty_chunks": True},
        )
        array[:] = values
    store.release()
    written = {f"{folder}/{name}": item for name, item in store.written.items()}
    record = Record(pilot_task(teacher), fingerprint, written, facts)
    ledger.put(record)
    return record


def read_pilot(cache: Cache, teacher: str) -> Pilot:
    """A teacher's pilot.

    Raises:
        MissingObjectError, DamagedObjectError: it is not there, or not what was written.
    """
    group = _group(cache, teacher)
    _check(group, _LOGITS, {"row": _ROWS, "class": _CLASSES}, "float32")
    _check(group, _PLACES, {"row": _ROWS, "place": 3}, "int32")
    logits: Any = group[_LOGITS]
    places: Any = group[_PLACES]
    return Pilot(np.asarray(logits[:]), np.asarray(places[:]))


def read_transform(cache: Cache, teacher: str) -> TransformModel:
    """The transform that was fitted to a teacher's pilot.

    Raises:
        MissingObjectError, DamagedObjectError: it is not there, or not what was written.
    """
    group = _group(cache, teacher)
    _check(group, _MODEL, {"byte": _BYTES}, "uint8")
    array: Any = group[_MODEL]
    return TransformModel.from_bytes(np.asarray(array[:]).tobytes())


def _check(group: zarr.Group, array: str, dimensions: Mapping[str, Extent], dtype: str) -> None:
    """Refuse an array that is not laid out as `write_pilot` does."""
    assert isinstance(group.store, CheckedStore)
    check_array(group.store, f"{group.path}/{array}", dimensions, tuple(dimensions.values()), [dtype])


def _group(cache: Cache, teacher: str) -> zarr.Group:
    if cache.ledger.get(pilot_task(teacher)) is None:
        raise MissingObjectError(f"{cache.place} has no pilot of teacher {teacher!r}; run `stillroom teacher`")
    try:
        found = cache.group[f"{teacher_folder(teacher)}/{PILOT}"]
    except KeyError as error:
        raise MissingObjectError(
            f"the pilot of teacher {teacher!r} in {cache.place} is missing, though the ledger lists it; "
            "`stillroom verify` finds all that is gone"
        ) from error
    if not isinstance(found, zarr.Group):
        raise DamagedObjectError(f"the pilot of teacher {teacher!r} in {cache.place} is no group; restore its metadata")
    return found
