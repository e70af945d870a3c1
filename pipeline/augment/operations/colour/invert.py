"""Invert: the negative of a view."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Invert(PixelOperation):
    """Each level becomes 255 minus itself."""

    op: ClassVar[str] = "invert"
    number: ClassVar[int] = 16
    source: ClassVar[str] = "torchvision's RandomInvert"

    p: float = Field(0.5, ge=0.0, le=1.0, description="probability that it acts on a view")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.INVERT, len(draws))
