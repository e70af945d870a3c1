"""AutoAugment's policy for ImageNet: one of 25 pairs of operations, each with a probability and a level."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.operations.geometry.affine import Interpolation
from stillroom.pipeline.augment.steps import Steps

from .magnitudes import POLICY, chosen

_BINS = 10
_PAIRS = """
posterize 0.4 8, rotate 0.6 9
solarize 0.6 5, autocontrast 0.6 5
equalize 0.8 8, equalize 0.6 3
posterize 0.6 7, posterize 0.6 6
equalize 0.4 7, solarize 0.2 4
equalize 0.4 4, rotate 0.8 8
solarize 0.6 3, equalize 0.6 7
posterize 0.8 5, equalize 1.0 2
rotate 0.2 3, solarize 0.6 8
equalize 0.6 8, posterize 0.4 6
rotate 0.8 8, color 0.4 0
rotate 0.4 9, equalize 0.6 2
equalize 0.0 7, equalize 0.8 8
invert 0.6 4, equalize 1.0 8
color 0.6 4, contrast 1.0 8
rotate 0.8 8, color 1.0 2
color 0.8 8, solarize 0.8 7
sharpness 0.4 7, invert 0.6 8
shear_x 0.6 5, equalize 1.0 9
color 0.4 0, equalize 0.6 3
equalize 0.4 7, solarize 0.2 4
solarize 0.6 5, autocontrast 0.6 5
invert 0.6 4, equalize 1.0 8
color 0.6 4, contrast 1.0 8
equalize 0.8 8, equalize 0.6 3
"""
_NAMES = list(POLICY)
_TABLE = np.array(
    [
        [(_NAMES.index(name), float(p), int(level)) for name, p, level in (one.split() for one in line.split(","))]
        for line in _PAIRS.strip().splitlines()
    ]
)
"""float64 [pair, 2, (operation, probability, level)]."""


class AutoAugment(PixelOperation):
    """Applies one of ImageNet's 25 pairs of operations, each with its probability and level; signs are drawn."""

    op: ClassVar[str] = "autoaugment"
    number: ClassVar[int] = 22
    source: ClassVar[str] = "Cubuk et al., 1805.09501, table 9; torchvision's AutoAugment"

    interpolation: Interpolation = Field("bilinear", description="how affine operations take pixels")
    fill: tuple[Level, Level, Level] = Field((0, 0, 0), description="colour of what lies outside, RGB in 0 … 255")

    def steps(self, draws: Draws) -> Steps:
        pair = _TABLE[(draws.units()[0] * len(_TABLE)).astype(np.int64)]
        found = []
        for place in range(2):
            acts, sign, _, _ = draws.units(1 + place)
            which, p, level = pair[:, place].T
            levels, signs = level / (_BINS - 1), np.where(sign < 0.5, -1.0, 1.0)
            steps = chosen(POLICY, which.astype(np.int64), levels, signs, self.interpolation, self.fill)
            steps[acts >= p] = 0
            found.append(steps)
        return np.concatenate(found, axis=1)
