"""Autocontrast: each channel is stretched to the whole range."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Autocontrast(PixelOperation):
    """The lowest level of the view becomes 0, the highest 255."""

    op: ClassVar[str] = "autocontrast"
    number: ClassVar[int] = 15
    source: ClassVar[str] = "torchvision's RandomAutocontrast; Pillow's ImageOps.autocontrast"

    p: float = Field(0.5, ge=0.0, le=1.0, description="probability that it acts on a view")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.AUTOCONTRAST, len(draws))
