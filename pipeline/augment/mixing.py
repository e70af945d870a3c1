"""How views are mixed in pairs: who with whom, in which way, and by how much. Draws; never sees a pixel.

x = λ·a + (1 − λ)·b outside a box, b inside it: mixup has no box, CutMix has λ = 1. `render` mixes.
"""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.pipeline.rng.philox import join
from stillroom.pipeline.rng.seeds import draw
from stillroom.storage.errors import ConfigError

from .operation import Draws, Named
from .steps import ONE

PAIR, CHOICE = 3, 23
"""Operation numbers of the draws of who is paired with whom, and of which way a pair is mixed."""


@dataclass(frozen=True)
class Mix:
    """How each of n views is mixed.

    Attributes:
        partner: int32 [n]: slot of the partner, the slot itself where alone.
        weight: float32 [n] in [0, 1]: λ, share of a view's own pixel in each one outside its box; 1 where alone.
        box: int32 [n, 4], top, left, bottom, right, in 1/65536 of the side: what is the partner's alone. None where no
            view has one.
    """

    partner: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    box: npt.NDArray[np.int32] | None = None

    def take(self, rows: npt.NDArray[np.int64]) -> "Mix":
        """Those rows."""
        return Mix(self.partner[rows], self.weight[rows], None if self.box is None else self.box[rows])

    def boxes(self, size: int) -> npt.NDArray[np.int64] | None:
        """The boxes in whole pixels of views of a size: int64 [n, 4]."""
        return None if self.box is None else (self.box.astype(np.int64) * size + ONE // 2) // ONE

    def own_share(self, size: int) -> npt.NDArray[np.float32]:
        """Share of each mixed view of a size that is its own, by the pixels that it really covers: float32 [n]."""
        boxes = self.boxes(size)
        if boxes is None:
            return self.weight
        covered = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (size * size)
        return (self.weight * (1.0 - covered)).astype(np.float32)


class PairMixing(Named):
    """A way to mix pairs."""

    p: float = Field(1.0, ge=0.0, le=1.0, description="share of the pairs that are mixed in this way")

    @abstractmethod
    def draw(self, draws: Draws) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32] | None]:
        """λ float32 [n] of each view, from its own seed, and its box int32 [n, 4] as `Mix` has it, or None for none."""


@dataclass(frozen=True)
class Mixing:
    """Mixing in pairs of one data shard and view.

    Attributes:
        ways: each with its share of the pairs; what is left over is not mixed.
    """

    ways: tuple[PairMixing, ...] = ()

    def __post_init__(self) -> None:
        names = [way.op for way in self.ways]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"mixing {name!r} stands twice in views.mix; both would draw the same numbers")
        total = sum(way.p for way in self.ways)
        if total > 1.0 + 1e-9:
            raise ConfigError(f"the p of views.mix add up to {total:g}; a pair is mixed in one way, so at most to 1")

    def __bool__(self) -> bool:
        return bool(self.ways)

    def pair_order(self, seeds: npt.NDArray[np.uint64], view: int) -> npt.NDArray[np.int32]:
        """Slots in the order in which they are paired off: int32 [n]; 2j and 2j + 1 are partners, an odd last is alone.

        Sorted by a draw; plain slot order without mixing.

        Args:
            seeds: uint64 [n], of all slots of one data shard.
            view: the view's number.
        """
        if not self.ways:
            return np.arange(len(seeds), dtype=np.int32)
        low, high, _, _ = draw(seeds, PAIR, view)
        return np.argsort(join(low, high), kind="stable").astype(np.int32)

    def draw(self, seeds: npt.NDArray[np.uint64], view: int) -> Mix:
        """Who is mixed with whom in a view of a whole data shard, and how.

        Args:
            seeds: uint64 [n], of all slots of one data shard.
            view: the view's number.
        """
        count = len(seeds)
        partner = np.arange(count, dtype=np.int32)
        weight = np.ones(count, np.float32)
        box: npt.NDArray[np.int32] | None = None
        paired = self.pair_order(seeds, view)[: count - count % 2]
        first, second = paired[0::2], paired[1::2]
        # A pair goes one way: that of the first one's draw.
        certain = bool(self.ways) and self.ways[0].p == 1.0
        chosen = np.zeros(len(first)) if certain else Draws(seeds[first], view, CHOICE).units()[0]
        below = 0.0
        for way in self.ways:
            these = (chosen >= below) & (chosen < below + way.p)
            below += way.p
            rows = np.concatenate([first[these], second[these]])
            partner[first[these]], partner[second[these]] = second[these], first[these]
            weights, boxes = way.draw(Draws(seeds, view, way.number))
            weight[rows] = weights[rows]
            if boxes is not None:
                box = np.zeros((count, 4), np.int32) if box is None else box
                box[rows] = boxes[rows]
        return Mix(partner, weight, box)
