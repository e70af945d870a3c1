"""One byte per class: each row's range cut into 255 equal steps. For a teacher of which nothing is known."""

from typing import ClassVar

import numpy as np

from stillroom.storage.errors import DamagedObjectError

from .base import RowCodec, Rows


class Int8Codec(RowCodec):
    """Per-row affine quantisation: float32 low and step, then one byte per class; error at most half a step."""

    kind: ClassVar[int] = 1
    codec_name: ClassVar[str] = "stillroom.int8"

    def encode_body(self, rows: Rows) -> bytes:
        """8 + classes bytes per row."""
        if not rows.size:
            return b""
        low = rows.min(axis=1)
        step = ((rows.max(axis=1).astype(np.float64) - low) / 255).astype(np.float32)
        safe = np.where(step > 0, step, 1).astype(np.float64)
        codes = np.clip(np.rint((rows.astype(np.float64) - low[:, None]) / safe[:, None]), 0, 255).astype(np.uint8)
        return b"".join((low.astype("<f4").tobytes(), step.astype("<f4").tobytes(), codes.tobytes()))

    def decode_body(self, body: bytes, rows: int, classes: int) -> Rows:
        """See `RowCodec.decode_body`."""
        if len(body) != rows * (8 + classes):
            raise DamagedObjectError(f"an int8 chunk has {len(body)} bytes, {rows * (8 + classes)} wanted")
        low, step = np.frombuffer(body[: 8 * rows], "<f4").reshape(2, rows)
        if not (np.isfinite(low).all() and np.isfinite(step).all()):
            raise DamagedObjectError("an int8 chunk has ranges that are not finite")
        codes = np.frombuffer(body[8 * rows :], np.uint8).reshape(rows, classes)
        limit = np.finfo(np.float32).max
        values = codes * step[:, None].astype(np.float64) + low[:, None]
        out: Rows = np.clip(values, -limit, limit).astype(np.float32)
        return out
