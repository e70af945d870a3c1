"""The pilot: which views a teacher is asked about first. A draw from a few data shards, the same wherever it is made.

Draws numbers only; `blocks` makes the views.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.rng.seeds import PILOT, permutation

MOST_SHARDS = 16
"""Data shards that are read for a pilot at most: each is a whole object, and a data set may be huge and far away."""
_SHARDS, _SLOTS, _VIEWS = range(3)


@dataclass(frozen=True)
class Drawn:
    """A data shard's part of the pilot: each of the views of each of the slots.

    Attributes:
        shard: which.
        slots: int64 [n], ascending.
        views: int64 [v], ascending.
    """

    shard: int
    slots: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.slots) * len(self.views)


def draw_pilot(sizes: Sequence[int], samples: int, views: int, count: int, seed: int) -> list[Drawn]:
    """Samples and views of a pilot, by data shard.

    Args:
        sizes: samples of each data shard.
        samples: how many to take, spread over the drawn data shards by their size.
        views: of each sample; where there are fewer samples than asked for, more views make up for them.
        count: views that there are.
        seed: root seed of the views.
    """
    shards = np.sort(permutation(len(sizes), seed, PILOT, 0, _SHARDS)[:MOST_SHARDS])
    ends = np.cumsum([sizes[shard] for shard in shards])
    taken = min(samples, int(ends[-1]))
    each = min(count, max(views, -(-samples * views // taken)))
    quotas = np.diff(ends * taken // ends[-1], prepend=0)
    return [
        Drawn(
            int(shard),
            np.sort(permutation(sizes[shard], seed, PILOT, int(shard), _SLOTS)[:quota]),
            np.sort(permutation(count, seed, PILOT, int(shard), _VIEWS)[:each]),
        )
        for shard, quota in zip(shards.tolist(), quotas.tolist(), strict=True)
        if quota
    ]
