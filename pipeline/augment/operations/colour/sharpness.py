"""Sharpness: between a blurred view and a sharpened one."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, fixed, step


class Sharpness(PixelOperation):
    """Sharpens by a factor uniform in [1 − x, 1 + x]: 0 is the view smoothed by a 3 × 3 filter, 1 the view itself."""

    op: ClassVar[str] = "sharpness"
    number: ClassVar[int] = 17
    source: ClassVar[str] = "Pillow's ImageEnhance.Sharpness"

    amount: float = Field(0.9, gt=0.0, le=1.0, description="spread of the factor")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.SHARPNESS, len(draws), fixed(1.0 + self.amount * (2.0 * draws.units()[0] - 1.0)))
