"""The decoder's axes, refitted under the KL itself: what the quantiser and the missing axes lost is partly known.

Principal axes give back the mean of the logits; at a loose bound the softmax of a mean is not the mean of softmaxes.
Given the quantised coefficients of the pilot, the best synthesis is a multinomial regression towards the teacher's
probabilities; it starts at the principal axes and is held near them. Minimised by L-BFGS (Nocedal & Wright, ch. 7).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MEMORY = 10


def refit(
    rows: NDArray[np.float32],
    values: NDArray[np.float32],
    synthesis: Floats,
    offset: Floats,
    temperatures: Sequence[float],
    steps: int = 60,
) -> tuple[Floats, Floats]:
    """Synthesis axes [K, C] and offset [C] with which decoded rows lose less.

    Args:
        rows: float32 [n, C], the pilot's logits.
        values: float32 [n, K], their decoded coefficients.
        synthesis: float64 [K, C], where to start.
        offset: float64 [C], where to start.
        temperatures: the KL times T² is summed over these.
        steps: iterations.
    """
    n, classes = rows.shape
    count = values.shape[1]
    wide = np.concatenate([values, np.ones((n, 1), np.float32)], axis=1)
    start = np.concatenate([synthesis, offset[None]]).astype(np.float32)
    held = 0.3 / n
    targets = [(t, _softmax(rows / np.float32(t))) for t in temperatures]

    def loss(change: Floats) -> tuple[float, Floats]:
        move = change.reshape(count + 1, classes)
        z = wide @ (start + move.astype(np.float32))
        total = held * float((move * move).sum())
        pull = np.zeros_like(z)
        for t, p in targets:
            scaled = z / np.float32(t)
            scaled -= scaled.max(axis=1, keepdims=True)
            q = np.exp(scaled)
            mass = q.sum(axis=1, keepdims=True)
            total += float(t * t / n * (np.log(mass[:, 0].astype(np.float64)) - np.einsum("ij,ij->i", p, scaled)).sum())
            pull += np.float32(t / n) * (q / mass - p)
        return total, ((wide.T @ pull).astype(np.float64) + 2 * held * move).ravel()

    best = _minimise(loss, np.zeros((count + 1) * classes), steps).reshape(count + 1, classes)
    return synthesis + best[:-1], offset + best[-1]


def _softmax(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    p = np.exp(rows - rows.max(axis=1, keepdims=True))
    out: NDArray[np.float32] = p / p.sum(axis=1, keepdims=True)
    return out


def _minimise(loss: Callable[[Floats], tuple[float, Floats]], x: Floats, steps: int) -> Floats:
    """L-BFGS with a backtracking line search."""
    value, slope = loss(x)
    past: list[tuple[Floats, Floats, float]] = []
    for _ in range(steps):
        way = -slope
        weights = []
        for move, bend, rho in reversed(past):
            weight = rho * float(move @ way)
            weights.append(weight)
            way = way - weight * bend
        if past:
            move, bend, rho = past[-1]
            way = way / (rho * float(bend @ bend))
        else:
            way = way / max(1.0, float(np.abs(slope).max()))
        for (move, bend, rho), weight in zip(past, reversed(weights), strict=True):
            way = way + move * (weight - rho * float(bend @ way))
        fall = float(slope @ way)
        length = 1.0
        while True:
            there = x + length * way
            new_value, new_slope = loss(there)
            if new_value <= value + 1e-4 * length * fall:
                break
            length /= 2
            if length < 1e-4:
                return x
        bent = new_slope - slope
        curve = float(bent @ (there - x))
        if curve > 1e-12:
            past = [*past[1 - _MEMORY :], (there - x, bent, 1 / curve)]
        done = value - new_value < 1e-6 * abs(value)
        x, value, slope = there, new_value, new_slope
        if done:
            break
    return x
