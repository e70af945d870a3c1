"""RandAugment: n operations one after another, chosen at random, all at one magnitude."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from stillroom.pipeline.augment.operation import Draws, Level, PixelOperation, Probability
from stillroom.pipeline.augment.operations.geometry.affine import IMAGENET_MEAN, Interpolation
from stillroom.pipeline.augment.steps import Steps
from stillroom.pipeline.rng.portable_math import cos_sin, log_each

from .magnitudes import PAPER, TIMM, TIMM_INCREASING, Choice, chosen

_SPACES: Mapping[str, tuple[Mapping[str, Choice], float]] = {
    "paper": (PAPER, 30.0),
    "timm": (TIMM, 10.0),
    "timm-inc": (TIMM_INCREASING, 10.0),
}


class RandAugment(PixelOperation):
    """Applies n operations, chosen with replacement; signs are drawn, with `std` magnitudes too, from a normal."""

    op: ClassVar[str] = "randaugment"
    number: ClassVar[int] = 20
    source: ClassVar[str] = "Cubuk et al., 1909.13719; timm's rand-m9-mstd0.5-inc1 is timm-inc, 9, 0.5, each_p 0.5"

    n: int = Field(2, ge=1, le=8, description="operations, one after another")
    magnitude: float = Field(9.0, ge=0.0, le=30.0, description="of 30 in the paper's space, of 10 in timm's")
    std: float = Field(0.0, ge=0.0, description="standard deviation of the magnitude, clipped to its range")
    space: Literal["paper", "timm", "timm-inc"] = Field(
        "paper", description="which operations, and what a magnitude means; inc: a larger one always changes more"
    )
    each_p: Probability = Field(1.0, description="probability that each of the n acts; timm's is 0.5")
    interpolation: Interpolation = Field("bilinear", description="how affine operations take pixels")
    fill: tuple[Level, Level, Level] = Field(IMAGENET_MEAN, description="colour of what lies outside, RGB in 0 … 255")

    def steps(self, draws: Draws) -> Steps:
        space, full = _SPACES[self.space]
        layers = []
        for layer in range(1, self.n + 1):
            choice, acts, sign, _ = draws.units(2 * layer)
            magnitude = np.full(len(draws), self.magnitude)
            if self.std:
                radius, angle, _, _ = draws.units(2 * layer + 1)
                normal = np.sqrt(-2.0 * log_each(1.0 - radius)) * cos_sin(360.0 * angle)[0]  # Box and Muller's
                magnitude += self.std * normal
            level = np.clip(magnitude / full, 0.0, 1.0)
            which = (choice * len(space)).astype(np.int64)
            steps = chosen(space, which, level, np.where(sign < 0.5, -1.0, 1.0), self.interpolation, self.fill)
            steps[acts >= self.each_p] = 0
            layers.append(steps)
        return np.concatenate(layers, axis=1)
