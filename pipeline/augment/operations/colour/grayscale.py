"""Grayscale: a view without colours, in three equal channels."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Grayscale(PixelOperation):
    """Each channel becomes 0.299 R + 0.587 G + 0.114 B."""

    op: ClassVar[str] = "grayscale"
    number: ClassVar[int] = 11
    source: ClassVar[str] = "torchvision's RandomGrayscale"

    p: float = Field(0.2, ge=0.0, le=1.0, description="probability that it acts on a view")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.SATURATION, len(draws), 0)
