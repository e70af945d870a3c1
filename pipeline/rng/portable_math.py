"""Exponential, logarithm, sine and cosine from +, −, × and ÷ alone.

IEEE 754 rounds those the same way on every machine; a library's `exp` may differ in its last bit between processors,
and a window could then differ by a pixel.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

_TERMS = 18
_HALVINGS = 6


def exp(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """e to the power of x, elementwise, for |x| up to 32; relative error below 1e-13."""
    reduced = x / 2.0**_HALVINGS
    total = np.ones_like(reduced)
    for term in range(_TERMS, 0, -1):
        total = 1.0 + total * reduced / term
    for _ in range(_HALVINGS):
        total = total * total
    return total


@cache
def log(value: float) -> float:
    """Natural logarithm of a positive number, by Newton's iteration on `exp`."""
    assert value > 0
    halvings, rest = 0, value
    while rest > 2.0:
        rest, halvings = rest / 2.0, halvings + 1
    while rest < 0.5:
        rest, halvings = rest * 2.0, halvings - 1
    return _newton(rest) + halvings * _newton(2.0)


def _newton(value: float) -> float:
    x = 0.0
    for _ in range(12):
        power = float(exp(np.array(x)))
        x = x + 2.0 * (value - power) / (value + power)
    return x


def log_each(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Natural logarithm of positive numbers, elementwise; error below 1e-13, of numbers above 1 relative."""
    part, power = np.frexp(values)  # exact: a number in [0.5, 1), and a power of two
    x = part - 1.0
    for _ in range(6):
        grown = exp(x)
        x = x + 2.0 * (part - grown) / (part + grown)
    return x + power * log(2.0)


def cos_sin(degrees: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cosine and sine of angles in [−360, 360] degrees, elementwise; absolute error below 1e-13."""
    x = degrees * (3.141592653589793 / 180.0) / 4.0
    square = x * x
    cosine, sine = np.ones_like(x), np.ones_like(x)
    for term in range(10, 0, -1):
        cosine = 1.0 - cosine * square / ((2 * term - 1) * (2 * term))
        sine = 1.0 - sine * square / ((2 * term) * (2 * term + 1))
    sine = sine * x
    for _ in range(2):  # twice the angle, twice
        cosine, sine = cosine * cosine - sine * sine, 2.0 * sine * cosine
    return cosine, sine
