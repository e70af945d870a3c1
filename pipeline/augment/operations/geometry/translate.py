"""Translation along both axes."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.steps import Steps

from .affine import Interpolation, translated


class Translate(PixelOperation):
    """Moves the picture by shares of the side, uniform in [−x, x] and [−y, y]."""

    op: ClassVar[str] = "translate"
    number: ClassVar[int] = 9
    source: ClassVar[str] = "torchvision's RandomAffine(translate=…), not rounded to whole pixels"

    x: float = Field(0.1, ge=0.0, le=1.0, description="largest move along x, a share of the width")
    y: float = Field(0.1, ge=0.0, le=1.0, description="largest move along y, a share of the height")
    interpolation: Interpolation = Field("bilinear", description="how pixels are taken")
    fill: tuple[Level, Level, Level] = Field((0, 0, 0), description="colour of what lies outside, RGB in 0 … 255")

    @property
    def acts(self) -> bool:
        return self.p > 0.0 and (self.x > 0.0 or self.y > 0.0)

    def steps(self, draws: Draws) -> Steps:
        right, down, _, _ = draws.units()
        return translated(self.x * (2.0 * right - 1.0), self.y * (2.0 * down - 1.0), self.interpolation, self.fill)
