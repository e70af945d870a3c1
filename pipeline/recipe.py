"""The recipe: which augmentations, with which ranges, and how a view's parameters are drawn from seeds.

Draws parameters as plain arrays; never sees a pixel. `render` applies them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ..storage.fingerprint import restated, stated
from . import exact
from .philox import join, unit
from .seeds import draw

CROP, FLIP, COLOUR, PAIR, LAMBDA = range(5)
"""Operations. Append only: a new augmentation never changes an old draw."""

_ATTEMPTS = 10


@dataclass(frozen=True)
class Recipe:
    """Ranges of the augmentations.

    Attributes:
        area: share of the image's area that a crop covers, uniform in [low, high].
        aspect: width over height of a crop, log-uniform in [low, high].
        flip: mirror left to right with probability 1/2.
        mixup: mix each view with its partner's (function matching).
        brightness, contrast, saturation: factors uniform in [1 − x, 1 + x]; 0 for none.
        hue: turn of the colour circle, uniform in [−x, x] turns; 0 for none.
    """

    LATER: ClassVar[Mapping[str, Any]] = {}
    """Augmentations that came after the first caches, with the value that leaves views as they were without them."""

    area: tuple[float, float] = (0.05, 1.0)
    aspect: tuple[float, float] = (0.75, 1.333333)
    flip: bool = True
    mixup: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    @property
    def colour(self) -> bool:
        """Whether colours change at all."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of all ranges."""
        return tuple(field.name for field in fields(cls))

    def to_data(self) -> dict[str, Any]:
        """As plain data, for a cache's attributes and fingerprints."""
        return stated({**asdict(self), "area": list(self.area), "aspect": list(self.aspect)}, self.LATER)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_data`, for what any version wrote.

        Raises:
            StoreError: it names an augmentation that this version does not have.
        """
        found = restated("the recipe of this cache", data, cls.names(), cls.LATER)
        return cls(**{**found, "area": tuple(found["area"]), "aspect": tuple(found["aspect"])})


@dataclass(frozen=True)
class Views:
    """One view each of n samples: all that `render` needs to know.

    Attributes:
        window: int32 [n, 4]: top, left, height, width of the crop, in whole pixels of the upright image.
        flip: int32 [n], 1 where mirrored.
        colour: float32 [n, 4]: brightness, contrast and saturation factors, hue in degrees; None for none.
    """

    window: npt.NDArray[np.int32]
    flip: npt.NDArray[np.int32]
    colour: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.window)

    def take(self, rows: npt.NDArray[np.int64]) -> "Views":
        """Those rows."""
        return Views(self.window[rows], self.flip[rows], None if self.colour is None else self.colour[rows])


def draw_views(
    recipe: Recipe,
    seeds: npt.NDArray[np.uint64],
    view: int,
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
) -> Views:
    """Parameters of a view of each sample.

    Args:
        recipe: the ranges.
        seeds: uint64 [n].
        view: the view's number.
        heights, widths: int32 [n], pixels of the upright images.
    """
    flip = np.zeros(len(seeds), np.int32)
    if recipe.flip:
        flip = (draw(seeds, FLIP, view)[0] >> np.uint32(31)).astype(np.int32)
    return Views(_windows(recipe, seeds, view, heights, widths), flip, _colours(recipe, seeds, view))


def centre_views(heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32], crop: float) -> Views:
    """The plain view for evaluation: a centred square of `crop` times the shorter side; no flip, no colour.

    Resized to `size`, that is what resizing the shorter side to size / crop and cutting the centre gives.
    """
    side = np.maximum(1, np.rint(np.minimum(heights, widths) * crop)).astype(np.int32)
    window = np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1).astype(np.int32)
    return Views(window, np.zeros(len(side), np.int32))


def pair_order(recipe: Recipe, seeds: npt.NDArray[np.uint64], view: int) -> npt.NDArray[np.int32]:
    """Slots in the order in which they are paired off: int32 [n]; 2j and 2j + 1 are partners, an odd last is alone.

    Sorted by a draw; plain slot order without mixing.

    Args:
        recipe: whether there is mixing.
        seeds: uint64 [n], of all slots of one data shard.
        view: the view's number.
    """
    if not recipe.mixup:
        return np.arange(len(seeds), dtype=np.int32)
    low, high, _, _ = draw(seeds, PAIR, view)
    return np.argsort(join(low, high), kind="stable").astype(np.int32)


def draw_partners(
    recipe: Recipe, seeds: npt.NDArray[np.uint64], view: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Who is mixed with whom in a view of a whole data shard, and how much.

    Args:
        recipe: without `mixup`, everyone stays alone.
        seeds: uint64 [n], of all slots of one data shard.
        view: the view's number.

    Returns:
        partner, int32 [n]: slot of the partner, the slot itself where alone.
        λ, float32 [n] in [0, 1): share of the sample's own pixels; exactly 1 where alone.
    """
    count = len(seeds)
    partner = np.arange(count, dtype=np.int32)
    share = np.ones(count, np.float32)
    if recipe.mixup:
        paired = pair_order(recipe, seeds, view)[: count - count % 2]
        partner[paired[0::2]], partner[paired[1::2]] = paired[1::2], paired[0::2]
        # 24 bits are what float32 holds, so that λ and 1 − λ are both exact.
        drawn = (draw(seeds, LAMBDA, view)[0] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        share[paired] = drawn[paired]
    return partner, share


def _windows(
    recipe: Recipe,
    seeds: npt.NDArray[np.uint64],
    view: int,
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
) -> npt.NDArray[np.int32]:
    """The inception crop: up to ten tries for a window that fits, then the largest centred one of a legal aspect."""
    full_height, full_width = heights.astype(np.float64), widths.astype(np.float64)
    log_low, log_high = exact.log(recipe.aspect[0]), exact.log(recipe.aspect[1])
    window = np.zeros((len(seeds), 4), np.int32)
    open_rows = np.arange(len(seeds))
    for attempt in range(_ATTEMPTS):
        if not len(open_rows):
            break
        area, aspect, down, right = (unit(words) for words in draw(seeds[open_rows], CROP, view, attempt))
        h_all, w_all = full_height[open_rows], full_width[open_rows]
        pixels = h_all * w_all * (recipe.area[0] + area * (recipe.area[1] - recipe.area[0]))
        ratio = exact.exp(log_low + aspect * (log_high - log_low))
        width, height = np.rint(np.sqrt(pixels * ratio)), np.rint(np.sqrt(pixels / ratio))
        fits = (width >= 1) & (width <= w_all) & (height >= 1) & (height <= h_all)
        top, left = np.floor(down * (h_all - height + 1)), np.floor(right * (w_all - width + 1))
        window[open_rows[fits]] = np.stack([top, left, height, width], axis=1)[fits].astype(np.int32)
        open_rows = open_rows[~fits]
    if len(open_rows):
        window[open_rows] = _fallback(recipe, full_height[open_rows], full_width[open_rows])
    return window


def _fallback(
    recipe: Recipe, heights: npt.NDArray[np.float64], widths: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    ratio = np.clip(widths / heights, recipe.aspect[0], recipe.aspect[1])
    width = np.clip(np.rint(np.minimum(widths, heights * ratio)), 1, widths)
    height = np.clip(np.rint(np.minimum(heights, widths / ratio)), 1, heights)
    top, left = (heights - height) // 2, (widths - width) // 2
    return np.stack([top, left, height, width], axis=1).astype(np.int32)


def _colours(recipe: Recipe, seeds: npt.NDArray[np.uint64], view: int) -> npt.NDArray[np.float32] | None:
    if not recipe.colour:
        return None
    spread = np.array([recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue * 360.0])
    centre = np.array([1.0, 1.0, 1.0, 0.0])
    drawn = np.stack([unit(words) for words in draw(seeds, COLOUR, view)], axis=1)
    return (centre + spread * (2.0 * drawn - 1.0)).astype(np.float32)
