"""The recipe: which augmentations, with which ranges, in which order; and how a view's parameters are drawn from seeds.

Draws parameters as plain arrays; never sees a pixel. `renderer` applies them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.operations.colour import Colour
from stillroom.pipeline.augment.operations.crop import Crop, centre_window
from stillroom.pipeline.augment.operations.flip import Flip
from stillroom.pipeline.augment.operations.mixup import Mixup
from stillroom.storage.errors import ConfigError, StoreError
from stillroom.storage.ledger.fingerprint import restated, stated

from .operation import Draws, Operation
from .registry import operation_of

CROP = Crop.op
_FIRST = (Crop, Flip, Colour, Mixup)
"""Those whose ranges stand in the recipe itself, as in the first caches. Every later one is an entry of `augment`."""
_KIND_OF = {name: kind for kind in _FIRST for name in kind.model_fields}
RANGES = tuple(_KIND_OF)
"""Names of the first ones' ranges."""
_AUGMENT = "augment"
_LATER: Mapping[str, Any] = {_AUGMENT: []}


@dataclass(frozen=True)
class Recipe:
    """Operations in the order in which they act on a view, and how views are mixed.

    `Recipe.of(area=(0.25, 1.0), mixup=False)` names ranges alone; those left out have their defaults.

    Attributes:
        operations: the crop, which the renderer cuts and resizes; the flip; colour; then any others.
        mixing: of pairs of views.
    """

    operations: tuple[Operation, ...] = (Crop(), Flip(), Colour())
    mixing: Mixup = field(default_factory=Mixup)

    def __post_init__(self) -> None:
        names = [item.op for item in self.operations]
        assert names[:3] == [kind.op for kind in _FIRST[:3]], "a recipe begins with crop, flip and colour"
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"augmentation {name!r} stands twice in a recipe; both would draw the same numbers")

    @classmethod
    def of(cls, augment: Sequence[Operation] = (), **ranges: Any) -> "Recipe":
        """A recipe of ranges by name, and of further operations.

        Raises:
            ConfigError: an operation stands twice.
        """
        crop, flip, colour, mixup = (
            kind(**{name: value for name, value in ranges.items() if _KIND_OF[name] is kind}) for kind in _FIRST
        )
        assert isinstance(mixup, Mixup)
        return cls((crop, flip, colour, *augment), mixup)  # type: ignore[arg-type]

    @property
    def mixup(self) -> bool:
        """Whether views are mixed in pairs."""
        return self.mixing.mixup

    @property
    def acting(self) -> tuple[Operation, ...]:
        """The operations that act on what was cut and resized, in order."""
        return tuple(item for item in self.operations[1:] if item.acts)

    def to_data(self) -> dict[str, Any]:
        """As plain data, for a cache's attributes and fingerprints."""
        crop, flip, colour = self.operations[:3]
        first = (crop, flip, self.mixing, colour)  # the order of the first caches, so that their bytes are the same
        ranges = {name: value for item in first for name, value in item.model_dump(mode="json").items()}
        return stated({**ranges, _AUGMENT: [item.to_data() for item in self.operations[3:]]}, _LATER)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_data`, for what any version wrote.

        Raises:
            StoreError: it names an augmentation that is not here, or not in this version.
        """
        found = restated("the recipe of this cache", data, [*RANGES, _AUGMENT], _LATER)
        try:
            augment = [operation_of(item) for item in found.pop(_AUGMENT)]
            return cls.of(augment, **found)
        except (ConfigError, ValueError) as error:
            raise StoreError(f"the recipe of this cache: {error}") from error


@dataclass(frozen=True)
class Views:
    """One view each of n samples: all that `renderer` needs to know.

    Attributes:
        drawn: parameters by operation, [n] or [n, k]; of the crop, the window, int32 [n, 4]: top, left, height, width,
            in whole pixels of the upright image.
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
    return Views(
        {
            item.op: item.draw(Draws(seeds, view, item.number), heights, widths)
            for item in (recipe.operations[0], *recipe.acting)
        }
    )


def centre_views(heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32], crop: float) -> Views:
    """The plain view for evaluation: a centred square of `crop` times the shorter side, and nothing else."""
    return Views({CROP: centre_window(heights, widths, crop)})
