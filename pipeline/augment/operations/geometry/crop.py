"""The inception crop: a window of random area and aspect."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from stillroom.pipeline.augment.operation import DaliOperation, Draws
from stillroom.pipeline.rng import portable_math
from stillroom.pipeline.rng.philox import unit

_ATTEMPTS = 10
Resize = Literal["bilinear", "bilinear-antialias", "bicubic", "bicubic-antialias"]
"""Filters by which windows are resized to views."""


def ordered(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """A range whose lower bound is given first.

    Raises:
        ValueError: it is not.
    """
    if value[0] > value[1]:
        raise ValueError(f"{name} is {list(value)}; give the smaller bound first")
    return value


class Crop(DaliOperation):
    """Its parameters are the window: int32 [n, 4], top, left, height, width, in whole pixels of the upright image.

    Up to ten tries for a window that fits, then the largest centred one of a legal aspect (Szegedy et al., 1409.4842).
    The renderer cuts it while it decodes.
    """

    op: ClassVar[str] = "crop"
    number: ClassVar[int] = 0
    dtype: ClassVar[str] = "int32"
    dims: ClassVar[int] = 1

    area: tuple[float, float] = Field((0.05, 1.0), description="share of the image's area that a crop covers")
    aspect: tuple[float, float] = Field((0.75, 1.333333), description="width over height of a crop, log-uniform")
    crop: Literal["random", "centre"] = Field(
        "random", description="random: of `area` and `aspect`; centre: the same centred square in every view"
    )
    crop_share: float = Field(
        1.0, gt=0.0, le=1.0, description='with `crop = "centre"`: side of the square, a share of the shorter side'
    )
    resize: Resize = Field(
        "bilinear", description="filter from the window to the view; with antialias, all pixels of the window count"
    )

    @field_validator("area")
    @classmethod
    def _area(cls, value: tuple[float, float]) -> tuple[float, float]:
        for place, area in enumerate(value):
            if not 0.0 < area <= 1.0:
                raise ValueError(f"views.area[{place}] is {area}; areas are fractions in (0, 1]")
        return ordered("views.area", value)

    @field_validator("aspect")
    @classmethod
    def _aspect(cls, value: tuple[float, float]) -> tuple[float, float]:
        for place, aspect in enumerate(value):
            if not 0.01 <= aspect <= 100.0:
                raise ValueError(f"views.aspect[{place}] is {aspect}; aspects are width / height in [0.01, 100]")
        return ordered("views.aspect", value)

    @model_validator(mode="after")
    def _share_of_a_centre(self) -> Self:
        if self.crop == "random" and self.crop_share != 1.0:
            raise ValueError(f'views.crop_share is {self.crop_share}, and views.crop is "random"; see views.area')
        return self

    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        if self.crop == "centre":
            return centre_window(heights, widths, self.crop_share)
        full_height, full_width = heights.astype(np.float64), widths.astype(np.float64)
        log_low, log_high = portable_math.log(self.aspect[0]), portable_math.log(self.aspect[1])
        window = np.zeros((len(draws), 4), np.int32)
        open_rows = np.arange(len(draws))
        for attempt in range(_ATTEMPTS):
            if not len(open_rows):
                break
            area, aspect, down, right = (unit(words) for words in draws.words(attempt, open_rows))
            h_all, w_all = full_height[open_rows], full_width[open_rows]
            pixels = h_all * w_all * (self.area[0] + area * (self.area[1] - self.area[0]))
            ratio = portable_math.exp(log_low + aspect * (log_high - log_low))
            width, height = np.rint(np.sqrt(pixels * ratio)), np.rint(np.sqrt(pixels / ratio))
            fits = (width >= 1) & (width <= w_all) & (height >= 1) & (height <= h_all)
            top, left = np.floor(down * (h_all - height + 1)), np.floor(right * (w_all - width + 1))
            window[open_rows[fits]] = np.stack([top, left, height, width], axis=1)[fits].astype(np.int32)
            open_rows = open_rows[~fits]
        if len(open_rows):
            window[open_rows] = self._fallback(full_height[open_rows], full_width[open_rows])
        return window

    def _fallback(self, heights: npt.NDArray[np.float64], widths: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        ratio = np.clip(widths / heights, self.aspect[0], self.aspect[1])
        width = np.clip(np.rint(np.minimum(widths, heights * ratio)), 1, widths)
        height = np.clip(np.rint(np.minimum(heights, widths / ratio)), 1, heights)
        top, left = (heights - height) // 2, (widths - width) // 2
        return np.stack([top, left, height, width], axis=1).astype(np.int32)

    def apply(self, image: Any, parameters: Any, fn: Any) -> Any:
        return fn.slice(image, parameters[0:2], parameters[2:4], axes=(0, 1))


def centre_window(heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32], crop: float) -> npt.NDArray[np.int32]:
    """A centred square of `crop` times the shorter side: int32 [n, 4].

    Resized to `size`, that is what resizing the shorter side to size / crop and cutting the centre gives.
    """
    side = np.maximum(1, np.rint(np.minimum(heights, widths) * crop)).astype(np.int32)
    return np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1).astype(np.int32)
