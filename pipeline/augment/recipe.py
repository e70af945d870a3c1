"""The recipe: which augmentations, with which ranges, in which order; and how a view's parameters are drawn from seeds.

Draws parameters as plain arrays; never sees a pixel. `renderer` applies them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.operations.colour.twist import Colour
from stillroom.pipeline.augment.operations.geometry.crop import Crop, centre_window
from stillroom.pipeline.augment.operations.geometry.flip import Flip
from stillroom.pipeline.augment.operations.mixing.mixup import Mixup
from stillroom.storage.errors import ConfigError, StoreError
from stillroom.storage.ledger.fingerprint import restated, stated

from .mixing import Mixing, PairMixing
from .operation import DaliOperation, Draws, Operation
from .registry import mixing_of, operation_of

CROP = Crop.op
FIRST = (Crop, Flip, Colour)
"""Those whose ranges stand in the recipe itself, as in the first caches. Every later one is an entry of `augment`."""
_KIND_OF = {name: kind for kind in FIRST for name in kind.model_fields}
RANGES = tuple(_KIND_OF)
"""Names of the first ones' ranges."""
_MIXUP, _AUGMENT, _MIX = "mixup", "augment", "mix"
_LATER: Mapping[str, Any] = {
    _AUGMENT: [],
    _MIX: [],
    **{name: Crop.model_fields[name].default for name in ("crop", "crop_share", "resize")},
}
FUNCTION_MATCHING = Mixing((Mixup(),))
"""Every pair is mixed, by a uniform λ: the paper's, and what `mixup = true` means."""


@dataclass(frozen=True)
class Recipe:
    """Operations in the order in which they act on a view, and how views are mixed.

    `Recipe.of(area=(0.25, 1.0), mixup=False)` names ranges alone; those left out have their defaults.

    Attributes:
        operations: the crop, which the renderer cuts and resizes; the flip; colour; then any others.
        mixing: of pairs of views.
    """

    operations: tuple[Operation, ...] = (Crop(), Flip(), Colour())
    mixing: Mixing = field(default=FUNCTION_MATCHING)

    def __post_init__(self) -> None:
        names = [item.op for item in self.operations]
        assert names[:3] == [kind.op for kind in FIRST], "a recipe begins with crop, flip and colour"
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"augmentation {name!r} stands twice in a recipe; both would draw the same numbers")
        for before, item in pairwise(self.operations):
            if isinstance(item, DaliOperation) and not isinstance(before, DaliOperation):
                raise ConfigError(
                    f"augmentation {item.op!r} comes after {before.op!r}; DALI applies it while it renders, before "
                    "those that stillroom's own kernels apply: put it first"
                )

    @classmethod
    def of(
        cls,
        augment: Sequence[Operation] = (),
        mix: Sequence[PairMixing] = (),
        mixup: bool = True,
        **ranges: Any,
    ) -> "Recipe":
        """A recipe of ranges by name, and of further operations.

        Args:
            augment: after the first ones, in this order.
            mix: ways of mixing pairs.
            mixup: without `mix`: whether every pair is mixed, as the paper does it.
            ranges: of the first ones; see `RANGES`.

        Raises:
            ConfigError: an operation stands twice, or in an order that cannot be.
        """
        first = [kind(**{name: value for name, value in ranges.items() if _KIND_OF[name] is kind}) for kind in FIRST]
        return cls((*first, *augment), Mixing(tuple(mix)) if mix else FUNCTION_MATCHING if mixup else Mixing())

    @property
    def mixup(self) -> bool:
        """Whether views are mixed in pairs."""
        return bool(self.mixing)

    @property
    def acting(self) -> tuple[Operation, ...]:
        """The crop, and the operations that act on what was cut and resized, in order."""
        return (self.operations[0], *(item for item in self.operations[1:] if item.acts))

    @property
    def in_integers(self) -> bool:
        """Whether all that acts are steps, or can be said as such: then nothing needs DALI's operators."""
        none = np.zeros(0, np.int32)
        return all(not isinstance(item, DaliOperation) or item.as_steps(none) is not None for item in self.acting[1:])

    def told(self, views: "Views", row: int) -> str:
        """What was done to one of some views besides the crop, in words; empty where nothing was."""
        words = (item.told(views.drawn[item.op][row]) for item in self.acting[1:])
        return ", ".join(filter(None, words))

    def to_data(self) -> dict[str, Any]:
        """As plain data, for a cache's attributes and fingerprints."""
        crop, flip, colour = (item.model_dump(mode="json") for item in self.operations[:3])
        ways = [] if self.mixing == FUNCTION_MATCHING else [item.to_data() for item in self.mixing.ways]
        augment = [item.to_data() for item in self.operations[3:]]
        # In the order of the first caches, so that their bytes are the same.
        return stated({**crop, **flip, _MIXUP: self.mixup, **colour, _AUGMENT: augment, _MIX: ways}, _LATER)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_data`, for what any version wrote.

        Raises:
            StoreError: it names an augmentation that is not here, or not in this version.
        """
        found = restated("the recipe of this cache", data, [*RANGES, _MIXUP, _AUGMENT, _MIX], _LATER)
        try:
            augment = [operation_of(item) for item in found.pop(_AUGMENT)]
            mix = [mixing_of(item) for item in found.pop(_MIX)]
            return cls.of(augment, mix, **found)
        except (ConfigError, ValueError) as error:
            raise StoreError(f"the recipe of this cache: {error}") from error


@dataclass(frozen=True)
class Views:
    """One view each of n samples: all that `renderer` needs to know.

    Attributes:
        drawn: parameters by operation, [n, …]; of the crop, the window, int32 [n, 4]: top, left, height, width, in
            whole pixels of the upright image.
    """

    drawn: Mapping[str, npt.NDArray[Any]]

    def __len__(self) -> int:
        return len(self.window)

    @property
    def window(self) -> npt.NDArray[np.int32]:
        """The crops."""
        return self.drawn[CROP]

    def take(self, rows: npt.NDArray[np.int64]) -> "Views":
        """Those rows."""
        return Views({name: values[rows] for name, values in self.drawn.items()})


def draw_views(
    recipe: Recipe,
    seeds: npt.NDArray[np.uint64],
    view: int,
    heights: npt.NDArray[np.int32],
    widths: npt.NDArray[np.int32],
) -> Views:
    """Parameters of a view of each sample.

    Args:
        recipe: the operations.
        seeds: uint64 [n].
        view: the view's number.
        heights, widths: int32 [n], pixels of the upright images.
    """
    return Views({item.op: item.draw(Draws(seeds, view, item.number), heights, widths) for item in recipe.acting})


def centre_views(heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32], crop: float) -> Views:
    """The plain view for evaluation: a centred square of `crop` times the shorter side, and nothing else."""
    return Views({CROP: centre_window(heights, widths, crop)})
