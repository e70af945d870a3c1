"""KL at several temperatures at once, in float32 and blocks that stay in the processor's cache: the encoder's check.

One exponential per logit: exp(z / T) for the highest T, the others are its powers where the ratio is a whole number.
Agrees with `divergence.divergence` to about 1e-5 nats; that one is for reports.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 18


def fast_divergence(
    rows: NDArray[np.float32],
    values: NDArray[np.float32],
    rebuild: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    temperatures: Sequence[float],
) -> NDArray[np.float64]:
    """KL(rows ‖ rebuild(values)) times T² in nats, float64 [temperatures, n], decoding block by block.

    Args:
        rows: float32 [n, classes].
        values: float32 [n, K], what `rebuild` makes rows of.
        rebuild: the decoder's last step.
        temperatures: the T.
    """
    out = np.empty((len(temperatures), len(rows)))
    ones = np.ones(rows.shape[1], np.float32)
    block = max(48, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), block):
        p = rows[start : start + block]
        q = rebuild(values[start : start + block])
        p = p - p.max(axis=1, keepdims=True)
        q -= q.max(axis=1, keepdims=True)
        gap = p - q
        for i, (t, u, v) in enumerate(_exponentials(p, q, temperatures)):
            mass = (u @ ones).astype(np.float64)
            cross = np.einsum("ij,ij->i", u, gap).astype(np.float64)
            ratio = np.log((v @ ones).astype(np.float64) / mass)
            out[i, start : start + block] = (cross / mass / t + ratio) * t * t
    return np.maximum(out, 0)


def _exponentials(
    p: NDArray[np.float32], q: NDArray[np.float32], temperatures: Sequence[float]
) -> list[tuple[float, NDArray[np.float32], NDArray[np.float32]]]:
    """exp(p / T) and exp(q / T) for each T, in the order given."""
    made: dict[float, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for t in sorted(set(temperatures), reverse=True):
        power, base = min(((other / t, other) for other in made if (other / t) % 1 == 0), default=(0.0, 0.0))
        if power in (2, 4, 5, 10):
            made[t] = (_power(made[base][0], int(power)), _power(made[base][1], int(power)))
        else:
            made[t] = (np.exp(p * np.float32(1 / t)), np.exp(q * np.float32(1 / t)))
    return [(t, *made[t]) for t in temperatures]


def _power(x: NDArray[np.float32], power: int) -> NDArray[np.float32]:
    square = x * x
    if power == 2:
        return square
    fourth = square * square
    return fourth if power == 4 else fourth * x if power == 5 else fourth * fourth * square
