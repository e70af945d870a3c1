"""What every lossy codec shares towards Zarr: a chunk [..., class] is rows of logits; a row of NaN is an unused slot.

A codec below only has to turn used, finite float32 rows into a body and back.
"""

import asyncio
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer

from stillroom.storage.errors import ConfigError, DamagedChunkError, DamagedObjectError

from . import frame

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class RowCodec(ArrayBytesCodec):
    """A Zarr array-to-bytes codec over rows of logits; the last dimension is the class.

    The bytes carry their own CRC-32; a damaged chunk raises `DamagedObjectError`, inside Zarr `DamagedChunkError`.
    """

    is_fixed_size: ClassVar[bool] = False  # type: ignore[misc]
    kind: ClassVar[int]
    codec_name: ClassVar[str]

    @abstractmethod
    def encode_body(self, rows: Rows) -> bytes:
        """Bytes for finite float32 rows [n, classes]; n may be 0."""

    @abstractmethod
    def decode_body(self, body: bytes, rows: int, classes: int) -> Rows:
        """Float32 rows [rows, classes] from `encode_body`'s bytes.

        Raises:
            DamagedObjectError: the bytes cannot be what `encode_body` wrote.
        """

    def configuration(self) -> dict[str, Any]:
        """What stands in zarr.json."""
        return {}

    def encode_rows(self, rows: Rows) -> bytes:
        """A whole chunk's bytes, from float rows [n, classes]; rows of NaN are kept as unused.

        Raises:
            ModelError: a row is neither finite nor all NaN.
        """
        used = frame.used_rows(rows)
        body = self.encode_body(np.ascontiguousarray(rows[used], np.float32))
        return frame.pack(self.kind, rows.shape[1], frame.Frame(used, body))

    def decode_rows(self, data: bytes, rows: int, classes: int) -> Rows:
        """Float32 rows [rows, classes] from a chunk's bytes.

        Raises:
            DamagedObjectError: the bytes are damaged, or of another codec or shape.
        """
        parts = frame.unpack(data, self.kind, rows, classes)
        count = int(parts.used.sum())
        decoded = self.decode_body(parts.body, count, classes)
        if count == rows:
            return decoded
        out = np.full((rows, classes), np.nan, np.float32)
        out[parts.used] = decoded
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec that zarr.json describes."""
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> dict[str, Any]:
        """The codec as it stands in zarr.json."""
        return {"name": self.codec_name, "configuration": self.configuration()}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:  # noqa: ARG002
        """Only float arrays with a class dimension can be stored.

        Raises:
            ConfigError: the array is not of float16 or float32, or has no dimension.
        """
        native = dtype.to_native_dtype()
        if native not in (np.dtype("float32"), np.dtype("float16")) or not shape:
            raise ConfigError(f"{self.codec_name} stores float32 or float16 arrays, not {native} of shape {shape}")

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Unknown before encoding."""
        raise NotImplementedError

    def _encode_sync(self, chunk: NDBuffer, spec: ArraySpec) -> Buffer:
        array = chunk.as_numpy_array()
        data = self.encode_rows(np.asarray(array, np.float32).reshape(-1, array.shape[-1]))
        return spec.prototype.buffer.from_bytes(data)

    def _decode_sync(self, chunk: Buffer, spec: ArraySpec) -> NDBuffer:
        classes = spec.shape[-1]
        rows = int(np.prod(spec.shape[:-1]))
        try:
            decoded = self.decode_rows(chunk.to_bytes(), rows, classes).reshape(spec.shape)
        except DamagedObjectError as error:
            raise DamagedChunkError(str(error)) from error
        return spec.prototype.nd_buffer.from_numpy_array(decoded.astype(spec.dtype.to_native_dtype(), copy=False))

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)
