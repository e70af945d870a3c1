"""Random erasing: a box of the view is overwritten."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation
from stillroom.pipeline.augment.steps import COLOUR, CONSTANT, NOISE, Kind, Steps, fixed, packed, step
from stillroom.pipeline.rng.portable_math import exp, log

from .affine import IMAGENET_MEAN
from .crop import ordered

_ATTEMPTS = 10
_HOW = {"constant": CONSTANT, "color": COLOUR, "noise": NOISE}


class RandomErasing(PixelOperation):
    """Overwrites a box of random area and aspect: up to ten tries for one that fits, else nothing is erased.

    A random colour, and noise, are uniform with the mean and the standard deviation of ImageNet's pixels.
    """

    op: ClassVar[str] = "random_erasing"
    number: ClassVar[int] = 19
    source: ClassVar[str] = "Zhong et al., 1708.04896; modes as timm's const, rand and pixel"

    p: float = Field(0.25, ge=0.0, le=1.0, description="probability that it acts on a view")
    area: tuple[float, float] = Field((0.02, 1 / 3), description="share of the view that is erased")
    aspect: tuple[float, float] = Field((0.3, 10 / 3), description="height over width of the box, log-uniform")
    mode: Literal["constant", "color", "noise"] = Field(
        "constant", description="constant: `fill`; color: one random colour; noise: a random colour for each pixel"
    )
    fill: tuple[Level, Level, Level] = Field(IMAGENET_MEAN, description="of mode constant, RGB in 0 … 255")

    @field_validator("area")
    @classmethod
    def _area(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 < value[0] <= value[1] <= 1.0:
            raise ValueError(f"area is {list(value)}; give two shares in (0, 1], the smaller one first")
        return value

    @field_validator("aspect")
    @classmethod
    def _aspect(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] <= 0.0:
            raise ValueError(f"aspect is {list(value)}; aspects are height / width, above 0")
        return ordered("aspect", value)

    def steps(self, draws: Draws) -> Steps:
        count = len(draws)
        found = np.zeros((4, count))
        low, high = log(self.aspect[0]), log(self.aspect[1])
        open_rows = np.arange(count)
        for attempt in range(1, _ATTEMPTS + 1):
            area, aspect, down, right = draws.units(attempt, open_rows)
            area = self.area[0] + area * (self.area[1] - self.area[0])
            ratio = exp(low + aspect * (high - low))
            height, width = np.sqrt(area * ratio), np.sqrt(area / ratio)
            fits = (height < 1.0) & (width < 1.0)
            box = np.stack([down * (1.0 - height), right * (1.0 - width), height, width])
            found[:, open_rows[fits]] = box[:, fits]
            open_rows = open_rows[~fits]
            if not len(open_rows):
                break
        seed = (words.view(np.int32) for words in draws.words()[:2])
        steps = step(Kind.ERASE, count, *map(fixed, found), packed(_HOW[self.mode], self.fill), *seed)
        steps[open_rows] = 0
        return steps
