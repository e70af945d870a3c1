"""What a block's encoding lost of the teacher's answers, measured by decoding what is to be written.

Knows logits before and after, and a Zarr shard's bytes; nothing of views or teachers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .codecs import Fidelity, LogitCodec, TransformCodec, fidelity
from .codecs.fast_divergence import fast_divergence

_SAMPLED = 1 << 20
"""Logits that are compared where the codec is plain floats, which only round: a share of the rows is enough."""
_INDEX_CHECKSUM = 4


def measure_block(
    name: str,
    codec: LogitCodec,
    shard: bytes,
    cut: tuple[int, int],
    logits: npt.NDArray[np.float32],
    decoded: npt.NDArray[np.float32],
    temperatures: Sequence[float],
) -> dict[str, Any]:
    """Figures for a block's record.

    Args:
        name: of the codec.
        codec: that encoded it.
        shard: its Zarr shard, as written.
        cut: inner chunks in the shard, and slots in each.
        logits: float32 [view, slot, class], the teacher's.
        decoded: float32, the same shape, from the shard's bytes.
        temperatures: the T to measure at; 1 is always among them.

    Returns:
        "name" of the codec; "bytes_per_view" of logits; "chunks", and "refined" of them, which took a finer step than
        the pilot's, by "refine_max" 64ths of an octave at most; "exact" rows; "rows" that were compared; by each of
        "temperatures", "kl_mean", "kl_p99" and "kl_max": KL(teacher ‖ decoded) · T² in nats; "top1", share of rows with
        the same first class.
    """
    asked = tuple(sorted({1.0, *map(float, temperatures)}))
    first = logits.reshape(-1, logits.shape[-1])
    second = decoded.reshape(first.shape)
    count, chunk_rows = cut
    refined = exact = finest = 0
    if isinstance(codec.serializer, TransformCodec):
        reports = [codec.serializer.inspect(chunk, chunk_rows) for chunk in _chunks(shard, count)]
        refined = sum(report.refine > 0 for report in reports)
        finest = max(report.refine for report in reports)
        exact = sum(report.exact for report in reports)
    found = _compared(first, second, asked, plain=bool(codec.compressors))
    return {
        "name": name,
        "bytes_per_view": round(len(shard) / len(first), 4),
        "chunks": count,
        "refined": refined,
        "refine_max": finest,
        "exact": exact,
        "rows": found[0].rows,
        "temperatures": list(asked),
        "kl_mean": [_short(item.mean) for item in found],
        "kl_p99": [_short(item.p99) for item in found],
        "kl_max": [_short(item.worst) for item in found],
        "top1": round(found[0].top1, 6),
    }


def _compared(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], temperatures: Sequence[float], *, plain: bool
) -> list[Fidelity]:
    """A `Fidelity` for each temperature. Equal floats lose nothing, which needs no exponentials."""
    if np.array_equal(first, second):
        return [Fidelity(t, 0.0, 0.0, 0.0, 1.0, len(first)) for t in temperatures]
    if plain:
        step = max(1, first.size // _SAMPLED)
        return fidelity(first[::step], second[::step], temperatures)
    # All rows, in float32: a bound for single rows needs the worst of them.
    kl = fast_divergence(first, second, np.copy, temperatures)
    same = float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
    return [
        Fidelity(t, float(row.mean()), float(np.quantile(row, 0.99)), float(row.max()), same, len(first))
        for t, row in zip(temperatures, kl, strict=True)
    ]


def _chunks(shard: bytes, count: int) -> list[bytes]:
    """The inner chunks of a Zarr shard, in order. Its index comes last: offset and size of each, and a checksum."""
    end = len(shard) - _INDEX_CHECKSUM
    index = np.frombuffer(shard[end - 16 * count : end], "<u8").reshape(count, 2)
    return [shard[int(start) : int(start + size)] for start, size in index]


def _short(value: float) -> float:
    """Six significant digits: records are read by people too."""
    return float(f"{value:.6g}")
