"""The field's usual layout, as the yardstick: the k largest probabilities, their classes, and a uniform tail."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stillroom.storage.errors import ConfigError, DamagedObjectError

from .base import RowCodec, Rows

_FLOOR = 2.0**-24  # the smallest positive float16


@dataclass(frozen=True)
class TopKCodec(RowCodec):
    """Top-k after TinyViT (Wu et al. 2022): float16 probabilities at T = 1, class indices, float16 tail mass.

    Decoded logits are log-probabilities; classes outside the k share the tail evenly.

    Attributes:
        k: classes kept per row.

    Raises:
        ConfigError: k is not positive.
    """

    k: int = 10
    kind: ClassVar[int] = 2
    codec_name: ClassVar[str] = "stillroom.topk"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"top-k needs k >= 1, not {self.k}")

    def configuration(self) -> dict[str, Any]:
        """k."""
        return {"k": self.k}

    def encode_body(self, rows: Rows) -> bytes:
        """4k + 2 bytes per row, 6k + 2 above 65,536 classes."""
        if not rows.size:
            return b""
        classes = rows.shape[1]
        k = min(self.k, classes)
        wide = rows.astype(np.float64)
        p = np.exp(wide - wide.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        # A stable order, so that ties fall alike everywhere.
        best = np.argsort(-rows, axis=1, kind="stable")[:, :k]
        kept = np.maximum(np.take_along_axis(p, best, 1), _FLOOR)
        np.put_along_axis(p, best, 0, 1)
        tail = np.maximum(p.sum(axis=1), _FLOOR)
        indices = best.astype("<u2" if classes <= 1 << 16 else "<u4")
        return b"".join((kept.astype("<f2").tobytes(), tail.astype("<f2").tobytes(), indices.tobytes()))

    def decode_body(self, body: bytes, rows: int, classes: int) -> Rows:
        """See `RowCodec.decode_body`."""
        k = min(self.k, classes)
        width = 2 if classes <= 1 << 16 else 4
        if len(body) != rows * (2 * k + 2 + width * k):
            raise DamagedObjectError(f"a top-{k} chunk has {len(body)} bytes, {rows * (2 * k + 2 + width * k)} wanted")
        kept = np.frombuffer(body, "<f2", rows * k).reshape(rows, k).astype(np.float32)
        tail = np.frombuffer(body, "<f2", rows, 2 * rows * k).astype(np.float32)
        indices = np.frombuffer(body, f"<u{width}", rows * k, 2 * rows * (k + 1)).reshape(rows, k)
        if rows and (int(indices.max()) >= classes or not (kept > 0).all() or not (tail > 0).all()):
            raise DamagedObjectError(f"a top-{k} chunk names classes or probabilities that cannot be")
        out = np.repeat(np.log(tail / max(classes - k, 1))[:, None], classes, 1)
        np.put_along_axis(out, indices.astype(np.int64), np.log(kept), 1)
        return out
