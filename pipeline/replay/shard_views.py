"""One data shard as an epoch or a teacher needs it: encoded images, one view's parameters, partners and logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.recipe import Recipe, Views, draw_views
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import Allowance
from stillroom.storage.dataset.index import ShardIndex

from .targets import Targets


@dataclass(frozen=True)
class ShardViews:
    """A view of each sample of a data shard, ready to render.

    Attributes:
        shard, view: which.
        index: of the data shard.
        images: encoded images by slot, uint8 [bytes] each.
        views: parameters by slot.
        mix: how they are mixed, by slot.
        order: int32 [slot], slots in the order of pairs: 2j and 2j + 1 are partners. Slot order without mixing.
        targets: what it is to be answered with, by guide.
        digests: uint16 [slot], by teacher.
    """

    shard: int
    view: int
    index: ShardIndex
    images: Sequence[npt.NDArray[np.uint8]]
    views: Views
    mix: Mix
    order: npt.NDArray[np.int32]
    targets: Sequence[Targets]
    digests: Mapping[str, npt.NDArray[np.uint16]]


def load_shard(
    cache: Cache,
    data: Dataset,
    recipe: Recipe,
    shard: int,
    view: int,
    targets: Sequence[Targets] = (),
    digests: Mapping[str, npt.NDArray[np.uint16]] | None = None,
    within: Allowance | None = None,
) -> ShardViews:
    """Read a data shard and draw a view of it.

    Args:
        cache, data, recipe: of the run.
        shard, view: which.
        targets, digests: see `ShardViews`.
        within: what may be in memory of encoded images; see `Dataset.images`.

    Raises:
        StoreError: something on disk is not what its record says.
    """
    index = data.index(shard)
    seeds = cache.seeds(shard)
    return ShardViews(
        shard,
        view,
        index,
        data.images(shard, index, within),
        draw_views(recipe, seeds, view, index.height, index.width),
        recipe.mixing.draw(seeds, view),
        recipe.mixing.pair_order(seeds, view),
        targets,
        digests or {},
    )


def logits_of(guide: int, views: ShardViews) -> npt.NDArray[np.float32]:
    """A guide's logits: float32 [slot, class]."""
    return views.targets[guide].logits


def source_of(guide: int, views: ShardViews) -> int:
    """The view that a guide's logits are of."""
    return views.targets[guide].source
