"""Uniform quantisation of √p: near optimal at T = 1, where KL(p ‖ q) ≈ 2 Σ(√p − √q)², and poor at high temperatures.

Kept for comparison, and for students that only ever ask for T = 1.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import constriction
import numpy as np

from stillroom.storage.errors import ConfigError, DamagedObjectError

from .base import RowCodec, Rows
from .frame import Reader, varint

_FLOOR = 2.0**-24
_TOTAL = 1 << 20


@dataclass(frozen=True)
class SqrtPCodec(RowCodec):
    """Square roots of the probabilities at T = 1, in steps, with one frequency table per chunk.

    Decoded logits are log-probabilities; classes that round to zero share what they had together, a float16 per row.

    Attributes:
        step: of √p, in (0, 1].

    Raises:
        ConfigError: the step is outside (0, 1], or below 1/4096.
    """

    step: float = 0.05
    kind: ClassVar[int] = 3
    codec_name: ClassVar[str] = "stillroom.sqrtp"

    def __post_init__(self) -> None:
        if not 1 / 4096 <= self.step <= 1:
            raise ConfigError(f"sqrtp's step is {self.step}; steps of √p lie between 1/4096 and 1")

    def configuration(self) -> dict[str, Any]:
        """The step."""
        return {"step": self.step}

    def encode_body(self, rows: Rows) -> bytes:
        """See `RowCodec.encode_body`."""
        if not rows.size:
            return b""
        wide = rows.astype(np.float64)
        p = np.exp(wide - wide.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        symbols = np.rint(np.sqrt(p) / self.step).astype(np.int32)
        tail = np.maximum(np.where(symbols == 0, p, 0).sum(axis=1), _FLOOR).astype("<f2")
        counts = np.bincount(symbols.ravel())
        frequencies = np.maximum(counts * (_TOTAL // counts.sum() or 1), 1) if counts.sum() < _TOTAL else counts + 1
        coder = constriction.stream.stack.AnsCoder()
        if len(counts) > 1:
            model = constriction.stream.model.Categorical(frequencies.astype(np.float64), perfect=False)
            coder.encode_reverse(symbols.ravel(), model)
        table = varint(len(frequencies)) + b"".join(varint(int(f)) for f in frequencies)
        return b"".join((table, tail.tobytes(), coder.get_compressed().astype("<u4").tobytes()))

    def decode_body(self, body: bytes, rows: int, classes: int) -> Rows:
        """See `RowCodec.decode_body`."""
        if not rows:
            return np.empty((0, classes), np.float32)
        reader = Reader(body)
        size = reader.varint()
        if not 1 <= size <= 4098:
            raise DamagedObjectError(f"a √p chunk has a table of {size} symbols")
        frequencies = np.array([reader.varint() for _ in range(size)], np.float64)
        tail = np.frombuffer(reader.take(2 * rows), "<f2").astype(np.float32)
        words = reader.rest()
        if len(words) % 4 or not (frequencies > 0).all() or not (tail > 0).all():
            raise DamagedObjectError("a √p chunk has frequencies or tails that cannot be")
        symbols = np.zeros(rows * classes, np.int32)
        if size > 1:
            try:
                coder = constriction.stream.stack.AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
                model = constriction.stream.model.Categorical(frequencies, perfect=False)
                symbols = coder.decode(model, rows * classes)
            except ValueError as error:
                raise DamagedObjectError(f"a √p chunk cannot be decoded: {error}") from error
        grid = symbols.reshape(rows, classes)
        zeros = np.maximum((grid == 0).sum(axis=1), 1)
        p = np.where(grid > 0, (grid * np.float32(self.step)) ** 2, (tail / zeros)[:, None])
        out: Rows = np.log(p).astype(np.float32)
        return out
