"""What a block's encoding lost of the teacher's answers, measured by decoding what is to be written, chunk by chunk.

Knows logits before and after, and encoded chunks; nothing of views or teachers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stillroom.storage.codecs.registry import Fidelity, LogitCodec, TransformCodec, fidelity
from stillroom.storage.codecs.rows.fast_divergence import fast_divergence

_SAMPLED = 1 << 20
"""Logits that are compared where the codec is plain floats, which only round: a share of the rows is enough."""

_Rows = npt.NDArray[np.float32]


class BlockFacts:
    """Figures for a block's record.

    Args:
        name: of the codec.
        codec: that encodes it.
        chunk_rows: slots of an inner chunk.
        rows: of the block in all, views times slots.
        classes: logits of a row.
        temperatures: the T to measure at; 1 is always among them.
    """

    def __init__(
        self, name: str, codec: LogitCodec, chunk_rows: int, rows: int, classes: int, temperatures: Sequence[float]
    ) -> None:
        self._name, self._codec, self._chunk_rows, self._rows = name, codec, chunk_rows, rows
        self._asked = tuple(sorted({1.0, *map(float, temperatures)}))
        self._plain = bool(codec.compressors)
        self._step = max(1, rows * classes // _SAMPLED) if self._plain else 1
        self._equal = True
        self._sampled: dict[int, tuple[_Rows, _Rows]] = {}
        self._kl: dict[int, npt.NDArray[np.float64]] = {}
        self._same = self._refined = self._exact = self._finest = 0

    def add(self, first: int, chunk: bytes, logits: _Rows, decoded: _Rows) -> None:
        """Measure one chunk.

        Args:
            first: which of the block's rows its first one is.
            chunk: encoded.
            logits: float32 [n, class], the teacher's.
            decoded: the same, from the chunk.
        """
        if isinstance(self._codec.serializer, TransformCodec):
            report = self._codec.serializer.inspect(chunk, self._chunk_rows)
            self._refined += report.refine > 0
            self._finest = max(self._finest, report.refine)
            self._exact += report.exact
        equal = np.array_equal(logits, decoded)  # loses nothing, which needs no exponentials
        self._equal &= equal
        if self._plain:
            some = slice(-first % self._step, None, self._step)
            self._sampled[first] = logits[some].copy(), decoded[some].copy()
        elif equal:
            self._kl[first] = np.zeros((len(self._asked), len(logits)))
            self._same += len(logits)
        else:  # all rows, in float32: a bound for single rows needs the worst of them
            self._kl[first] = fast_divergence(logits, decoded, np.copy, self._asked)
            self._same += int((logits.argmax(axis=1) == decoded.argmax(axis=1)).sum())

    def facts(self, chunks: int, size: int) -> dict[str, Any]:
        """All figures, of a Zarr shard of so many chunks and bytes.

        Returns:
            "name" of the codec; "bytes_per_view" of logits; "chunks", and "refined" of them, which took a finer step
            than the pilot's, by "refine_max" 64ths of an octave at most; "exact" rows; "rows" that were compared; by
            each of "temperatures", "kl_mean", "kl_p99" and "kl_max": KL(teacher ‖ decoded) · T² in nats; "top1", share
            of rows whose top-1 class is the same.
        """
        found = self._compared()
        return {
            "name": self._name,
            "bytes_per_view": round(size / self._rows, 4),
            "chunks": chunks,
            "refined": self._refined,
            "refine_max": self._finest,
            "exact": self._exact,
            "rows": found[0].rows,
            "temperatures": list(self._asked),
            "kl_mean": [_short(item.mean) for item in found],
            "kl_p99": [_short(item.p99) for item in found],
            "kl_max": [_short(item.worst) for item in found],
            "top1": round(found[0].top1, 6),
        }

    def _compared(self) -> list[Fidelity]:
        """A `Fidelity` for each temperature."""
        if self._equal:
            return [Fidelity(t, 0.0, 0.0, 0.0, 1.0, self._rows) for t in self._asked]
        if self._plain:
            first, second = zip(*(self._sampled[start] for start in sorted(self._sampled)), strict=True)
            return fidelity(np.concatenate(first), np.concatenate(second), self._asked)
        kl = np.concatenate([self._kl[start] for start in sorted(self._kl)], axis=1)
        same = self._same / self._rows
        return [
            Fidelity(t, float(row.mean()), float(np.quantile(row, 0.99)), float(row.max()), same, self._rows)
            for t, row in zip(self._asked, kl, strict=True)
        ]


def _short(value: float) -> float:
    """Six significant digits: records are read by people too."""
    return float(f"{value:.6g}")
