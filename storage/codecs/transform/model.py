"""What a pilot taught us about a teacher's logits, as integers and powers: all that the transform codec needs.

A model is fitted once (`fit`), never changed, and travels inside the codec's configuration. Every array that decides a
symbol is integer. It knows nothing of chunks.
"""

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stillroom.storage.errors import DamagedObjectError

_MAGIC = "stillroom.transform/1"
_MAX_BYTES = 1 << 28
_ARRAYS = {
    "mean": "<i4",
    "offset": "<i4",
    "axes": "<i2",
    "axis_step": "<f8",
    "analysis": "<i2",
    "analysis_gain": "<f8",
    "weights": "<i4",
    "base_scale": "<i2",
    "threshold_count": "<i2",
    "thresholds": "<i8",
    "table_size": "<i4",
    "tables": "<u4",
    "shift": "<i2",
}


@dataclass(frozen=True, eq=False)
class TransformModel:
    """A fitted transform, quantiser and entropy model.

    Attributes:
        classes: C, the length of a row.
        temperatures: the T at which the bound holds.
        max_kl: the bound, nats times T², on a chunk's mean.
        row_kl: a row above this is stored exactly.
        step: quantiser step, in units of a coefficient.
        rate_price: squared steps that the encoder pays for one bit less.
        bias: how far below the midpoint the quantiser rounds down, in steps.
        mean: int32 [C], the pilot's centred mean, which encoding takes off, in units of 2**-10.
        offset: int32 [C], what decoding adds, in units of 2**-10.
        axes: int16 [K, C], the synthesis axes, each in units of its `axis_step`.
        axis_step: float64 [K].
        analysis: int16 [K, C], or [0, C] where analysis and synthesis axes are the same.
        analysis_gain: float64 [K], coefficient per integer product of centred logits and analysis axis.
        weights: int32 [K], what a level of each axis adds to a row's energy.
        base_scale: int16 [K], each axis' scale class at low energy.
        threshold_count: int16 [K], how many energies raise the class, by axis.
        thresholds: int64 [sum], those energies, ascending within an axis.
        table_size: int32 [S], largest symbol magnitude of each scale class.
        tables: uint32, per class and quantiser the frequencies of magnitudes 0 … size (both signs together).
        shift: int16 [S, 2, 3], reconstruction of magnitudes 1, 2, 3+ beyond their level, in 1/256 step.
    """

    classes: int
    temperatures: tuple[float, ...]
    max_kl: float
    row_kl: float
    step: float
    rate_price: float
    bias: float
    mean: NDArray[np.int32]
    offset: NDArray[np.int32]
    axes: NDArray[np.int16]
    axis_step: NDArray[np.float64]
    analysis: NDArray[np.int16]
    analysis_gain: NDArray[np.float64]
    weights: NDArray[np.int32]
    base_scale: NDArray[np.int16]
    threshold_count: NDArray[np.int16]
    thresholds: NDArray[np.int64]
    table_size: NDArray[np.int32]
    tables: NDArray[np.uint32]
    shift: NDArray[np.int16]

    def to_bytes(self) -> bytes:
        """The model, uncompressed and the same everywhere: a JSON line, then the arrays, little-endian."""
        head: dict[str, Any] = {"format": _MAGIC}
        arrays = b""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _ARRAYS:
                head[field.name] = list(value.shape)
                arrays += np.ascontiguousarray(value).astype(_ARRAYS[field.name]).tobytes()
            else:
                head[field.name] = list(value) if isinstance(value, tuple) else value
        return json.dumps(head, sort_keys=True).encode() + b"\n" + arrays

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The model that `to_bytes` wrote.

        Raises:
            DamagedObjectError: it is not one.
        """
        try:
            line, _, rest = data.partition(b"\n")
            head = json.loads(line)
            if head.pop("format") != _MAGIC:
                raise ValueError("unknown format")
            at = 0
            values: dict[str, Any] = {}
            for field in fields(cls):
                value = head.pop(field.name)
                if field.name in _ARRAYS:
                    count = int(np.prod(value, dtype=np.int64))
                    array = np.frombuffer(rest, _ARRAYS[field.name], count, at)
                    at += array.nbytes
                    value = array.reshape(value).astype(array.dtype.newbyteorder("="))
                elif isinstance(value, list):
                    value = tuple(value)
                values[field.name] = value
            if at != len(rest) or head:
                raise ValueError("left-over data")
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedObjectError(f"this is not a transform model: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_bytes`, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_text(self) -> str:
        """The model as base64 of zlib, for zarr.json. Bytes of 16-bit arrays are split in planes, which zlib likes."""
        return base64.b64encode(zlib.compress(_planes(self.to_bytes()), 9)).decode()

    @property
    def axis_count(self) -> int:
        """K, the coefficients per row."""
        return int(self.axes.shape[0])


def _planes(data: bytes) -> bytes:
    even = np.frombuffer(data + b"\0" * (len(data) % 2), np.uint8).reshape(-1, 2).T
    return len(data).to_bytes(8, "little") + even.tobytes()


@lru_cache(maxsize=16)
def model_from_text(text: str, digest: str) -> TransformModel:
    """The model that `TransformModel.to_text` wrote, checked against its digest; the last few are remembered.

    Raises:
        DamagedObjectError: it is not that model.
    """
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(base64.b64decode(text, validate=True), _MAX_BYTES)
    except (ValueError, zlib.error) as error:
        raise DamagedObjectError(f"the transform model in zarr.json is damaged: {error}") from error
    size = int.from_bytes(data[:8], "little")
    plain = np.frombuffer(data[8 : 8 + (len(data) - 8) // 2 * 2], np.uint8).reshape(2, -1).T.tobytes()[:size]
    if hashlib.sha256(plain).hexdigest() != digest:
        raise DamagedObjectError(f"the transform model in zarr.json is not {digest}; restore the array's metadata")
    return TransformModel.from_bytes(plain)
