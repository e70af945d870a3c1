"""TrivialAugment: one operation at a random level."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.operations.geometry.affine import Interpolation
from stillroom.pipeline.augment.steps import Steps

from .magnitudes import WIDE, chosen

_BINS = 31


class TrivialAugmentWide(PixelOperation):
    """Applies one operation; it, one of 31 levels, and the sign are uniform."""

    op: ClassVar[str] = "trivialaugment_wide"
    number: ClassVar[int] = 21
    source: ClassVar[str] = "Müller and Hutter, 2103.10158; torchvision's TrivialAugmentWide"

    interpolation: Interpolation = Field("bilinear", description="how affine operations take pixels")
    fill: tuple[Level, Level, Level] = Field((0, 0, 0), description="colour of what lies outside, RGB in 0 … 255")

    def steps(self, draws: Draws) -> Steps:
        choice, level, sign, _ = draws.units()
        which = (choice * len(WIDE)).astype(np.int64)
        levels = np.floor(level * _BINS) / (_BINS - 1)
        return chosen(WIDE, which, levels, np.where(sign < 0.5, -1.0, 1.0), self.interpolation, self.fill)
