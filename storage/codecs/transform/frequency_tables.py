"""Scale classes and frequency tables, learned from a pilot's coefficients; all that leaves here is integer."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .contexts import CLASS_COUNT, PER_OCTAVE, TOTAL, UNIT_CLASS, scale_of, table_sizes

Floats = NDArray[np.float64]
_GAUSSIAN = float(np.sqrt(np.pi / 2))  # standard deviation per mean magnitude
_SHAPES = (1.0, 1.25, 1.5, 1.75, 2.0)


def learn_contexts(
    coefficients: Floats, levels: NDArray[np.int32], step: float
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
    """Weights, base classes, threshold counts and thresholds (see `TransformModel`).

    Each axis' scale is a power of the energy before it, fitted as a gamma regression of the magnitude (log link).

    Args:
        coefficients: float64 [n, K].
        levels: int32 [n, K], their levels at that step.
        step: the quantiser's step.
    """
    axes = coefficients.shape[1]
    scale = np.maximum(np.abs(coefficients).mean(axis=0) * _GAUSSIAN / step, 1e-3)
    weights = np.maximum(np.rint(256 / scale / (1 + scale**-2.0)), 1).astype(np.int32)
    gain = np.abs(levels).astype(np.int64) * weights
    energy = np.cumsum(gain, axis=1) - gain
    base = np.zeros(axes, np.int16)
    limits: list[list[int]] = []
    for axis in range(axes):
        seen = energy[:, axis]
        prior = 1024.0
        norm = float(seen.mean()) + prior
        feature = np.log((seen + prior) / norm)
        level, slope = _gamma_regression(feature, np.abs(coefficients[:, axis]) / step)

        def class_at(value: float, level: float = level, slope: float = slope) -> int:
            eta = (level + slope * value) / np.log(2) + np.log2(_GAUSSIAN)
            return int(np.clip(np.rint(PER_OCTAVE * eta + UNIT_CLASS), 0, CLASS_COUNT - 1))

        low, high = (class_at(float(v)) for v in np.quantile(feature, [0.002, 0.998]))
        base[axis] = low
        here = []
        for index in range(low, high):
            eta = (index + 0.5 - UNIT_CLASS) / PER_OCTAVE * np.log(2) - np.log(_GAUSSIAN)
            here.append(int(np.ceil(np.exp((eta - level) / slope) * norm - prior)))
        limits.append(here)
    counts = np.array([len(here) for here in limits], np.int16)
    return weights, base, counts, np.array([v for here in limits for v in here], np.int64)


def _gamma_regression(feature: Floats, magnitude: Floats) -> tuple[float, float]:
    """Level and slope of log E[magnitude] over the feature; slope in [0, 1.5]."""
    level, slope = float(np.log(magnitude.mean() + 1e-9)), 0.0
    spread = float(feature.var()) + 0.02
    for _ in range(30):
        gap = np.clip(magnitude / np.exp(level + slope * feature) - 1, -1, 5)
        centre = float(feature.mean())
        move = float((gap * (feature - centre)).mean()) / spread
        slope += move
        level += float(gap.mean()) - move * centre
    if slope < 0.05:
        return float(np.log(magnitude.mean() + 1e-9)), 0.0
    slope = min(slope, 1.5)
    return level + float(np.log(np.mean(magnitude / np.exp(level + slope * feature)) + 1e-9)), slope


@lru_cache(maxsize=1)
def prior_tables() -> list[list[Floats]]:
    """Per class, per quantiser and shape: probabilities of magnitudes 0 … size, of generalised Gaussians."""
    return [
        [np.stack([_cells(float(scale_of(c)), int(size), q, s) for s in _SHAPES]) for q in range(2)]
        for c, size in enumerate(table_sizes())
    ]


def _cells(scale: float, size: int, quantiser: int, shape: float) -> Floats:
    fine = max(1 / 16, scale / 32)
    grid = np.arange(fine / 2, 2 * size + 2, fine)
    # Mean magnitude of a unit generalised Gaussian: gamma(2 / shape) / gamma(1 / shape), here by summation.
    unit = np.arange(0.005, 40, 0.01)
    density = np.exp(-(unit**shape))
    width = scale / _GAUSSIAN / float((unit * density).sum() / density.sum())
    mass = np.exp(-((grid / width) ** shape))
    k = np.arange(size + 1)
    edges = 2.0 * k + 1 if quantiser == 0 else np.where(k == 0, 0.5, 2.0 * k)
    summed = np.concatenate([[0.0], np.cumsum(mass)])
    inside = np.interp(edges, np.arange(len(summed)) * fine, summed)
    p = np.diff(inside, prepend=0.0) + 1e-12
    out: Floats = p / p.sum()
    return out


def learn_tables(
    symbols: NDArray[np.int32], odd: NDArray[np.uint8], classes: NDArray[np.uint8], prior: list[list[Floats]]
) -> NDArray[np.uint32]:
    """Frequencies of all classes and quantisers, flat: the pilot's counts over the best-fitting prior.

    Args:
        symbols: int32 [n, K].
        odd: [n, K], the quantiser.
        classes: [n, K], the scale class.
        prior: `prior_tables()`.
    """
    sizes = table_sizes()
    out = []
    magnitude = np.abs(symbols).ravel()
    key = (classes * 2 + odd).ravel()
    for index, size in enumerate(sizes):
        for quantiser in range(2):
            mine = magnitude[key == index * 2 + quantiser]
            counts = np.bincount(np.minimum(mine, size), minlength=size + 1).astype(np.float64)
            shapes = prior[index][quantiser]
            best = shapes[int(np.argmax(np.log(shapes) @ counts))]
            strength = 20 + 8 * float(np.sqrt(size))
            p = (counts + strength * best) / (counts.sum() + strength)
            out.append(_whole(p))
    return np.concatenate(out).astype(np.uint32)


def _whole(p: Floats) -> NDArray[np.int64]:
    """Probabilities as integers >= 2 that add up to TOTAL."""
    counts = np.maximum(np.floor(p * (TOTAL - 2 * len(p))), 0).astype(np.int64) + 2
    counts[0] += TOTAL - int(counts.sum())
    return counts


def learn_shift(
    scaled: Floats, symbols: NDArray[np.int32], odd: NDArray[np.uint8], classes: NDArray[np.uint8]
) -> NDArray[np.int16]:
    """The mean of coefficients beyond the level of magnitudes 1, 2 and 3+: int16 [classes, 2, 3], in 1/256 step.

    Args:
        scaled: float64 [n, K], coefficients in steps.
        symbols: int32 [n, K].
        odd: [n, K].
        classes: [n, K].
    """
    magnitude = np.abs(symbols)
    used = magnitude > 0
    level = 2 * magnitude - odd
    gap = (scaled * np.sign(symbols) - level)[used]
    key = ((classes.astype(np.int64) * 2 + odd) * 3 + np.clip(magnitude, 1, 3) - 1)[used]
    total = np.bincount(key, gap, CLASS_COUNT * 6)
    count = np.bincount(key, minlength=CLASS_COUNT * 6)
    return np.clip(np.rint(256 * total / (count + 30)), -200, 200).astype(np.int16).reshape(CLASS_COUNT, 2, 3)
