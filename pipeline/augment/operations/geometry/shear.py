"""Shear along both axes."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.steps import Steps

from .affine import Interpolation, sheared


class Shear(PixelOperation):
    """Shears by factors uniform in [−x, x] and [−y, y]: a row moves by x times its distance from the upper edge."""

    op: ClassVar[str] = "shear"
    number: ClassVar[int] = 8
    source: ClassVar[str] = "AutoAugment's ShearX and ShearY (1805.09501), by Pillow's convention"

    x: float = Field(0.3, ge=0.0, le=1.0, description="largest shear along x, of a share of the height")
    y: float = Field(0.0, ge=0.0, le=1.0, description="largest shear along y, of a share of the width")
    interpolation: Interpolation = Field("bilinear", description="how pixels are taken")
    fill: tuple[Level, Level, Level] = Field((0, 0, 0), description="colour of what lies outside, RGB in 0 … 255")

    @property
    def acts(self) -> bool:
        return self.p > 0.0 and (self.x > 0.0 or self.y > 0.0)

    def steps(self, draws: Draws) -> Steps:
        along_x, along_y, _, _ = draws.units()
        return sheared(self.x * (2.0 * along_x - 1.0), self.y * (2.0 * along_y - 1.0), self.interpolation, self.fill)
