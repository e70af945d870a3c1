"""Pad and crop: a move by whole pixels, as small images are augmented (CIFAR's four pixels of 32)."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, fixed, packed, step


class PadCrop(PixelOperation):
    """Moves the picture by whole pixels along both axes; each number from −padding to padding is equally likely."""

    op: ClassVar[str] = "pad_crop"
    number: ClassVar[int] = 6
    source: ClassVar[str] = "torchvision's RandomCrop(size, padding=…)"

    padding: float = Field(0.125, gt=0.0, le=0.5, description="padding on each side, a share of the side; 4 of 32")
    fill: tuple[Level, Level, Level] = Field((0, 0, 0), description="colour of the padding, RGB in 0 … 255")

    def steps(self, draws: Draws) -> Steps:
        down, right = (words >> np.uint32(16) for words in draws.words()[:2])
        return step(Kind.SHIFT, len(draws), down, right, fixed(self.padding), packed(0, self.fill))
