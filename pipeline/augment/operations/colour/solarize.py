"""Solarize: bright levels are inverted."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Solarize(PixelOperation):
    """Levels from the threshold on become 255 minus themselves."""

    op: ClassVar[str] = "solarize"
    number: ClassVar[int] = 12
    source: ClassVar[str] = "torchvision's RandomSolarize"

    p: float = Field(0.2, ge=0.0, le=1.0, description="probability that it acts on a view")
    threshold: int = Field(128, ge=0, le=256, description="the first level that is inverted")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.SOLARIZE, len(draws), self.threshold)
