"""Gaussian blur."""

from typing import ClassVar

from pydantic import Field, field_validator

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, fixed, step

_SIDE = 224


class GaussianBlur(PixelOperation):
    """Blurs by a sigma uniform in the range, in pixels of a view of 224; at other sizes it is scaled with the view."""

    op: ClassVar[str] = "gaussian_blur"
    number: ClassVar[int] = 18
    source: ClassVar[str] = "SimCLR, 2002.05709; torchvision's GaussianBlur with RandomApply's p"

    p: float = Field(0.5, ge=0.0, le=1.0, description="probability that it acts on a view")
    sigma: tuple[float, float] = Field((0.1, 2.0), description="smallest and largest sigma, in pixels of 224")

    @field_validator("sigma")
    @classmethod
    def _sigma(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 < value[0] <= value[1] <= 56.0:
            raise ValueError(f"sigma is {list(value)}; give two in (0, 56] pixels of 224, the smaller one first")
        return value

    def steps(self, draws: Draws) -> Steps:
        low, high = self.sigma
        return step(Kind.BLUR, len(draws), fixed((low + draws.units()[0] * (high - low)) / _SIDE))
