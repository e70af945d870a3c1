"""How far decoded logits are from the teacher's: KL at each temperature, and top-1 agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fidelity:
    """What one temperature lost.

    Attributes:
        temperature: the softmax temperature T.
        mean: KL(teacher ‖ decoded) in nats times T², mean over the rows.
        p99: the same, 99th percentile.
        worst: the same, maximum.
        top1: fraction of rows whose largest class is the same.
        rows: rows compared; unused (NaN) slots do not count.
    """

    temperature: float
    mean: float
    p99: float
    worst: float
    top1: float
    rows: int


def _log_softmax(rows: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    scaled = rows.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    scaled -= np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return scaled


def divergence(
    original: NDArray[np.floating[Any]], decoded: NDArray[np.floating[Any]], temperatures: Sequence[float]
) -> NDArray[np.float64]:
    """KL(original ‖ decoded) times T², in nats, per temperature and row, in float64.

    Args:
        original: logits [n, classes], finite.
        decoded: logits [n, classes], finite.
        temperatures: the T.

    Returns:
        float64 [temperatures, n]; never below zero.
    """
    out = np.empty((len(temperatures), len(original)))
    block = max(1, (1 << 20) // max(1, original.shape[1]))
    for start in range(0, len(original), block):
        rows = slice(start, start + block)
        for i, temperature in enumerate(temperatures):
            p = _log_softmax(original[rows], temperature)
            q = _log_softmax(decoded[rows], temperature)
            out[i, rows] = (np.exp(p) * (p - q)).sum(axis=1) * temperature**2
    return np.maximum(out, 0)


def fidelity(
    original: NDArray[np.floating[Any]],
    decoded: NDArray[np.floating[Any]],
    temperatures: Sequence[float] = (1, 2, 5, 10),
) -> list[Fidelity]:
    """Compares decoded logits with the original ones, a `Fidelity` per temperature.

    Args:
        original: the teacher's logits [..., classes]; rows of NaN are unused slots and do not count.
        decoded: what the codec gives back, of the same shape.
        temperatures: softmax temperatures.
    """
    first = original.reshape(-1, original.shape[-1])
    second = decoded.reshape(-1, original.shape[-1])
    used = ~np.isnan(first).all(axis=1)
    first, second = first[used], second[used]
    if not len(first):
        return [Fidelity(float(t), 0.0, 0.0, 0.0, 1.0, 0) for t in temperatures]
    same = float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
    table = divergence(first, second, temperatures)
    return [
        Fidelity(float(t), float(kl.mean()), float(np.quantile(kl, 0.99)), float(kl.max()), same, len(first))
        for t, kl in zip(temperatures, table, strict=True)
    ]
