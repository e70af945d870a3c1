"""Rotation, shear and translation as matrices: what `rotate`, `shear`, `translate` and the policies share.

Conventions are Pillow's: a matrix takes an output's place to the input's, (0, 0) is the upper left corner of the upper
left pixel, and shears are about that corner.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.steps import BILINEAR, NEAREST, RGB, Steps, affine
from stillroom.pipeline.rng.portable_math import cos_sin

Interpolation = Literal["nearest", "bilinear"]
IMAGENET_MEAN = (124, 116, 104)
"""The mean colour of ImageNet's images, in levels."""
_HOW = {"nearest": NEAREST, "bilinear": BILINEAR}
_Values = npt.NDArray[np.float64]


def rotated(degrees: _Values, how: Interpolation, fill: RGB) -> Steps:
    """Counter-clockwise about the centre, by degrees [n]."""
    cosine, sine = cos_sin(degrees)
    matrix = (cosine, -sine, 0.5 - 0.5 * cosine + 0.5 * sine, sine, cosine, 0.5 - 0.5 * sine - 0.5 * cosine)
    return affine(matrix, len(degrees), _HOW[how], fill)


def sheared(along_x: _Values, along_y: _Values, how: Interpolation, fill: RGB) -> Steps:
    """x' = x + along_x · y, y' = y + along_y · x, [n] each."""
    return affine((1.0, along_x, 0.0, along_y, 1.0, 0.0), len(along_x), _HOW[how], fill)


def translated(right: _Values, down: _Values, how: Interpolation, fill: RGB) -> Steps:
    """The picture moves by shares of the side, [n] each."""
    return affine((1.0, 0.0, -right, 0.0, 1.0, -down), len(right), _HOW[how], fill)
