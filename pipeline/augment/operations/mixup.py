"""Mixup of pairs: function matching (2106.05237), by one λ for each sample.

How pairs are mixed is in `render`, where the pixels are: x = λ·a + (1 − λ)·b.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from stillroom.pipeline.rng.philox import join
from stillroom.pipeline.rng.seeds import draw

PAIR, LAMBDA = 3, 4
"""Operation numbers: who is paired with whom, and by how much they are mixed."""


class Mixup(BaseModel):
    """Mixing in pairs of one data shard and view."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: ClassVar[str] = "mixup"

    mixup: bool = Field(True, description="true: function matching; false: consistent teaching")

    def pair_order(self, seeds: npt.NDArray[np.uint64], view: int) -> npt.NDArray[np.int32]:
        """Slots in the order in which they are paired off: int32 [n]; 2j and 2j + 1 are partners, an odd last is alone.

        Sorted by a draw; plain slot order without mixing.

        Args:
            seeds: uint64 [n], of all slots of one data shard.
            view: the view's number.
        """
        if not self.mixup:
            return np.arange(len(seeds), dtype=np.int32)
        low, high, _, _ = draw(seeds, PAIR, view)
        return np.argsort(join(low, high), kind="stable").astype(np.int32)

    def draw(self, seeds: npt.NDArray[np.uint64], view: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Who is mixed with whom in a view of a whole data shard, and how much.

        Args:
            seeds: uint64 [n], of all slots of one data shard.
            view: the view's number.

        Returns:
            partner, int32 [n]: slot of the partner, the slot itself where alone; without mixing, everyone is alone.
            λ, float32 [n] in [0, 1): share of the sample's own pixels; exactly 1 where alone.
        """
        count = len(seeds)
        partner = np.arange(count, dtype=np.int32)
        share = np.ones(count, np.float32)
        if self.mixup:
            paired = self.pair_order(seeds, view)[: count - count % 2]
            partner[paired[0::2]], partner[paired[1::2]] = paired[1::2], paired[0::2]
            # 24 bits are what float32 holds, so that λ and 1 − λ are both exact.
            drawn = (draw(seeds, LAMBDA, view)[0] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
            share[paired] = drawn[paired]
        return partner, share
