"""Rotation about the centre."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.steps import Steps

from .affine import Interpolation, rotated


class Rotate(PixelOperation):
    """Rotates about the centre, by an angle uniform in [−degrees, degrees]."""

    op: ClassVar[str] = "rotate"
    number: ClassVar[int] = 7
    source: ClassVar[str] = "torchvision's RandomRotation"

    degrees: float = Field(30.0, gt=0.0, le=180.0, description="largest angle either way")
    interpolation: Interpolation = Field("bilinear", description="how pixels are taken")
    fill: tuple[Level, Level, Level] = Field((0, 0, 0), description="colour of what lies outside, RGB in 0 … 255")

    def steps(self, draws: Draws) -> Steps:
        return rotated(self.degrees * (2.0 * draws.units()[0] - 1.0), self.interpolation, self.fill)
