"""Posterize: fewer levels."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Posterize(PixelOperation):
    """Keeps the highest bits of each level."""

    op: ClassVar[str] = "posterize"
    number: ClassVar[int] = 13
    source: ClassVar[str] = "torchvision's RandomPosterize"

    p: float = Field(0.5, ge=0.0, le=1.0, description="probability that it acts on a view")
    bits: int = Field(4, ge=0, le=8, description="bits that are kept")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.POSTERIZE, len(draws), self.bits)
