"""Colour jitter with a probability and in random order, as self-supervised recipes and torchvision have it."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, PixelOperation
from stillroom.pipeline.augment.steps import Kind, Steps, fixed, step

_Spread = Annotated[float, Field(ge=0.0, le=1.0)]


class ColorJitter(PixelOperation):
    """Changes levels by three factors uniform in [1 − x, 1 + x], and the hue, in random order."""

    op: ClassVar[str] = "color_jitter"
    number: ClassVar[int] = 10
    source: ClassVar[str] = "torchvision's ColorJitter, with RandomApply's p"

    brightness: _Spread = Field(0.4, description="spread of the factor")
    contrast: _Spread = Field(0.4, description="spread of the factor")
    saturation: _Spread = Field(0.4, description="spread of the factor")
    hue: float = Field(0.1, ge=0.0, le=0.5, description="largest turn of the colour circle, a share of it")

    def steps(self, draws: Draws) -> Steps:
        count = len(draws)
        spreads = (self.brightness, self.contrast, self.saturation, self.hue)
        kinds = (Kind.BRIGHTNESS, Kind.CONTRAST, Kind.SATURATION, Kind.HUE)
        steps = [
            step(kind, count, fixed((0.0 if kind == Kind.HUE else 1.0) + spread * (2.0 * drawn - 1.0)))
            for kind, spread, drawn in zip(kinds, spreads, draws.units(1), strict=True)
            if spread
        ]
        if not steps:
            return np.zeros((count, 0, 8), np.int32)
        order = np.argsort(np.stack(draws.words(2)[: len(steps)], axis=1), axis=1, kind="stable")
        return np.take_along_axis(np.concatenate(steps, axis=1), order[:, :, None], axis=1)
