"""Draws from Beta(α, α), exact and the same on every machine: by rejection, from the counter-based generator.

α = 1: a uniform. α < 1: Jöhnk's method (1964): of two uniforms to the power of 1/α, the first one's share of their
sum, where that is at most 1. α > 1: Ulrich's method (1984) in its polar form (Devroye 1986, p. 437): of a point (a, b)
uniform in the unit disc, s = a² + b², 1/2 + a / (2·√s) · √(1 − s^(2 / (2α − 1))).
"""

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.operation import Draws
from stillroom.pipeline.rng.portable_math import exp, log_each

_FIRST = 16
"""Number of the first draw that is taken."""
_ATTEMPTS = 64
"""Each accepts at least half: one in 2^64 is left, and becomes 1/2."""


def symmetric_beta(draws: Draws, alpha: float) -> npt.NDArray[np.float64]:
    """float64 [n] in [0, 1]."""
    if alpha == 1.0:
        return draws.units(_FIRST)[0]
    found = np.full(len(draws), 0.5)
    open_rows = np.arange(len(draws))
    for attempt in range(_FIRST, _FIRST + _ATTEMPTS):
        u, v, fine_u, fine_v = draws.units(attempt, open_rows)
        first, second = ((word + (fine + 0.5) * 2.0**-32) for word, fine in ((u, fine_u), (v, fine_v)))  # never 0
        values, accepted = _johnk(first, second, alpha) if alpha < 1.0 else _ulrich(first, second, alpha)
        found[open_rows[accepted]] = values[accepted]
        open_rows = open_rows[~accepted]
        if not len(open_rows):
            break
    return found


_Found = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]


def _johnk(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64], alpha: float) -> _Found:
    # By logarithms: for a small α both powers may be too small for a number, and their ratio still is one.
    log_x, log_y = log_each(u) / alpha, log_each(v) / alpha
    larger = np.maximum(log_x, log_y)
    x, y = (exp(np.maximum(part - larger, -32.0)) for part in (log_x, log_y))
    scale = exp(np.maximum(larger, -32.0))
    return x / (x + y), (x + y) * scale <= 1.0


def _ulrich(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64], alpha: float) -> _Found:
    a, b = 2.0 * u - 1.0, 2.0 * v - 1.0
    s = a * a + b * b
    accepted = (s <= 1.0) & (s > 0.0)
    inside = np.where(accepted, s, 0.5)
    power = exp(np.maximum(log_each(inside) * (2.0 / (2.0 * alpha - 1.0)), -32.0))
    return 0.5 + 0.5 * a / np.sqrt(inside) * np.sqrt(np.maximum(1.0 - power, 0.0)), accepted
