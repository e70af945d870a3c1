"""From places in an epoch to rows to render: which views a batch needs, and how they are mixed.

Pure index arithmetic over loaded data shards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.recipe import Views
from stillroom.pipeline.render.request import Request
from stillroom.storage.dataset.encoded_images import Picked

from .epoch_order import Places
from .shard_views import ShardViews

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Rows:
    """The m views that n samples of a batch need: their own, and partners' that are not among them.

    Attributes:
        shards: the data shards they come from.
        shard: int64 [m], place in `shards`.
        slot: int64 [m].
        own: int64 [n], row of each sample's own view.
        other: int64 [n], row of the view it is mixed with.
    """

    shards: Sequence[ShardViews]
    shard: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    own: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.slot)

    def column(self, of: Callable[[ShardViews], npt.NDArray[_T]]) -> npt.NDArray[_T]:
        """A column of the data shards, [m, …], for each row."""
        columns = [of(shard) for shard in self.shards]
        found = np.empty((len(self), *columns[0].shape[1:]), columns[0].dtype)
        for number, column in enumerate(columns):
            rows = self.shard == number
            found[rows] = column[self.slot[rows]]
        return found

    def constant(self, of: Callable[[ShardViews], int]) -> npt.NDArray[np.int64]:
        """A number of the data shards, int64 [m], for each row."""
        return np.array([of(shard) for shard in self.shards], np.int64)[self.shard]

    def request(self) -> Request:
        """What the renderer needs to render every row; images are fetched when they are rendered."""
        images = Picked([shard.images for shard in self.shards], self.shard, self.slot)
        names = self.shards[0].views.drawn
        views = Views({name: self.column(partial(_parameters, name)) for name in names})
        return Request(images, [views], self._name)

    def mix(self) -> Mix:
        """How the n samples are mixed; partners are slots."""
        boxed = any(shard.mix.box is not None for shard in self.shards)
        box = self.column(_boxes)[self.own] if boxed else None
        return Mix(
            self.column(lambda shard: shard.mix.partner)[self.own],
            self.column(lambda shard: shard.mix.weight)[self.own],
            box,
        )

    def _name(self, row: int) -> str:
        shard = self.shards[self.shard[row]]
        return f"sample {shard.index.key[self.slot[row]]!r} (data shard {shard.shard}, slot {self.slot[row]})"


def plan_rows(places: Places, shards: Mapping[int, ShardViews]) -> Rows:
    """Rows for some places of an epoch.

    A pair that two batches share is rendered whole for both.

    Args:
        places: n of them.
        shards: the loaded data shards, by number; at least those that the places name.
    """
    numbers = np.unique(places.shard)
    held = [shards[int(number)] for number in numbers]
    shard = np.searchsorted(numbers, places.shard).astype(np.int64)
    slot = np.empty(len(places), np.int64)
    partner = np.empty(len(places), np.int64)
    for number, views in enumerate(held):
        rows = shard == number
        slot[rows] = views.order[places.position[rows]]
        partner[rows] = views.mix.partner[slot[rows]]
    own_codes, partner_codes = shard << 32 | slot, shard << 32 | partner
    codes = np.concatenate([own_codes, np.setdiff1d(partner_codes, own_codes)])
    sorter = np.argsort(codes)
    other = sorter[np.searchsorted(codes, partner_codes, sorter=sorter)]
    return Rows(held, codes >> 32, codes & 0xFFFFFFFF, np.arange(len(own_codes)), other)


def _boxes(shard: ShardViews) -> npt.NDArray[np.int32]:
    return np.zeros((len(shard.mix.partner), 4), np.int32) if shard.mix.box is None else shard.mix.box


def _parameters(operation: str, shard: ShardViews) -> npt.NDArray[Any]:
    return shard.views.drawn[operation]
