"""Equalize: a flat histogram of each channel."""

from typing import ClassVar

from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Equalize(PixelOperation):
    """Levels are mapped so that their histogram over the view becomes uniform, as Pillow does it."""

    op: ClassVar[str] = "equalize"
    number: ClassVar[int] = 14
    source: ClassVar[str] = "torchvision's RandomEqualize; Pillow's ImageOps.equalize"

    p: float = Field(0.5, ge=0.0, le=1.0, description="probability that it acts on a view")

    def steps(self, draws: Draws) -> Steps:
        return step(Kind.EQUALIZE, len(draws))
