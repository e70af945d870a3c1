"""Steps: what is done to a view's pixels after it was cut and resized, as numbers.

An operation draws steps; `pixels` carries them out, with the same integers on a CPU and on a GPU. Here is what each
kind of step takes, and nothing of how it is done. Lengths are shares of the view's side, so that one view means the
same at every size.
"""

import math
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int32]
"""int32 [n, k, 8]: k steps one after another for each of n views; a row is a `Kind` and up to seven numbers."""
WIDTH = 8
ONE = 1 << 16
"""1.0 as the fixed-point number that shares, factors and matrices are."""


class Kind(IntEnum):
    """Kinds of steps, with their numbers in a row. They are append-only, and none ever changes what it does."""

    NOTHING = 0
    BRIGHTNESS = 1  # factor
    CONTRAST = 2  # factor
    SATURATION = 3  # factor
    HUE = 4  # turn of the colour circle, −ONE … ONE
    SHARPNESS = 5  # factor
    POSTERIZE = 6  # bits that are kept
    SOLARIZE = 7  # the first level that is inverted
    SOLARIZE_ADD = 8  # levels that are added below 128
    INVERT = 9
    AUTOCONTRAST = 10
    EQUALIZE = 11
    AFFINE = 12  # matrix a, b, c, d, e, f: x' = a·x + b·y + c, y' = d·x + e·y + f, of the output; how and fill
    SHIFT = 13  # down, right: draws in [0, ONE); padding, a share; fill
    BLUR = 14  # sigma, a share
    ERASE = 15  # top, left, height, width, shares; how and fill; two words of a seed
    MIRROR = 16  # 1: left to right; 2: upside down


NEAREST, BILINEAR = 0, 1
"""How an affine step takes pixels."""
CONSTANT, COLOUR, NOISE = 0, 1, 2
"""What an erased box is filled with."""
RGB = tuple[int, int, int]


def step(kind: Kind, count: int, *numbers: npt.ArrayLike) -> Steps:
    """One step for each of n views: int32 [n, 1, 8].

    Args:
        kind: of all of them.
        count: n.
        numbers: what the kind takes, int [n] or one for all.
    """
    found = np.zeros((count, 1, WIDTH), np.int32)
    found[:, 0, 0] = kind
    for place, number in enumerate(numbers, 1):
        found[:, 0, place] = number
    return found


def fixed(values: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Real numbers as fixed-point ones, rounded half to even: int32."""
    return np.rint(np.asarray(values, np.float64) * ONE).astype(np.int32)


def packed(how: int, fill: RGB) -> int:
    """How a step is done, and a colour, in one number."""
    return how << 24 | fill[0] << 16 | fill[1] << 8 | fill[2]


def affine(
    matrix: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    count: int,
    how: int,
    fill: RGB,
) -> Steps:
    """Affine steps: int32 [n, 1, 8].

    Args:
        matrix: a, b, c, d, e, f, each float [n] or one for all: from a place in the output to the one in the input that
            it is taken from, in shares of the side from the upper left corner.
        count: n.
        how: NEAREST or BILINEAR.
        fill: of what lies outside.
    """
    return step(Kind.AFFINE, count, *(fixed(number) for number in matrix), packed(how, fill))


def texts(steps: Steps) -> list[str]:
    """Some steps [k, 8] in words, for people; those that do nothing are left out."""
    return [_text(row) for row in steps.tolist() if row[0] != Kind.NOTHING]


def _text(row: list[int]) -> str:
    kind, shares = Kind(row[0]), [number / ONE for number in row[1:]]
    name = kind.name.lower().replace("_", " ")
    match kind:
        case Kind.BRIGHTNESS | Kind.CONTRAST | Kind.SATURATION | Kind.SHARPNESS:
            return "grayscale" if kind == Kind.SATURATION and not row[1] else f"{name} × {shares[0]:.2f}"
        case Kind.HUE:
            return f"{name} {360 * shares[0]:+.0f}°"
        case Kind.POSTERIZE:
            return f"{name} to {row[1]} bits"
        case Kind.SOLARIZE:
            return f"{name} from {row[1]}"
        case Kind.SOLARIZE_ADD:
            return f"{name} {row[1]}"
        case Kind.AFFINE:
            return _affine_text(shares)
        case Kind.MIRROR:
            return "mirrored" if row[1] == 1 else "upside down"
        case Kind.BLUR:
            return f"{name}, sigma {100 * shares[0]:.2g} % of the side"
        case Kind.ERASE:
            return f"{name} {100 * shares[2] * shares[3]:.0f} %"
    return name


def _affine_text(matrix: list[float]) -> str:
    a, b, c, d, e, f = matrix[:6]
    if b == -d != 0.0:
        return f"rotate {math.degrees(math.atan2(d, a)):+.0f}°"
    moved = [
        f"{name} {value:+.2f}"
        for name, value in (("shear x", b), ("shear y", d), ("translate x", -c), ("translate y", -f))
        if value
    ]
    return ", ".join(moved) or ("affine" if (a, e) != (1.0, 1.0) else "in place")
