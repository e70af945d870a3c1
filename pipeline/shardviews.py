"""One data shard as an epoch or a teacher needs it: encoded images, one view's parameters, partners and logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.index import ShardIndex
from .guide import Guide
from .recipe import Recipe, Views, draw_partners, draw_views, pair_order


@dataclass(frozen=True)
class ShardViews:
    """A view of each sample of a data shard, ready to render.

    Attributes:
        shard, view: which.
        source: the view that the logits are of; −1 for the plain one.
        index: of the data shard.
        images: encoded images by slot, uint8 [bytes] each.
        views: parameters by slot.
        partner: int32 [slot], whom it is mixed with.
        share: float32 [slot], λ.
        order: int32 [slot], slots in the order of pairs: 2j and 2j + 1 are partners. Slot order without mixing.
        logits: float32 [slot, class], or None where no teacher was asked for.
        digests: uint16 [slot], or None likewise.
    """

    shard: int
    view: int
    source: int
    index: ShardIndex
    images: Sequence[npt.NDArray[np.uint8]]
    views: Views
    partner: npt.NDArray[np.int32]
    share: npt.NDArray[np.float32]
    order: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32] | None
    digests: npt.NDArray[np.uint16] | None


def load_shard(
    cache: Cache, data: Dataset, recipe: Recipe, shard: int, view: int, guide: Guide | None, source: int
) -> ShardViews:
    """Read a data shard and draw a view of it.

    Args:
        cache, data, recipe: of the run.
        shard: which.
        view: the view that is drawn.
        guide: where targets come from, if any are wanted.
        source: the view whose logits are the targets; see `Guide.source`.

    Raises:
        StoreError: something on disk is not what its record says.
        ModelError: the teacher's logits are not finite.
    """
    index = data.index(shard)
    seeds = cache.seeds(shard)
    logits = digests = None
    if guide is not None:
        logits, digests = guide.logits(shard, source), guide.first.digests(shard, view)
    partner, share = draw_partners(recipe, seeds, view)
    return ShardViews(
        shard,
        view,
        source,
        index,
        data.images(shard, index),
        draw_views(recipe, seeds, view, index.height, index.width),
        partner,
        share,
        pair_order(recipe, seeds, view),
        logits,
        digests,
    )


def expected_digests(views: ShardViews) -> npt.NDArray[np.uint16]:
    """The teacher's digests: uint16 [slot]."""
    assert views.digests is not None
    return views.digests


def teacher_logits(views: ShardViews) -> npt.NDArray[np.float32]:
    """The teacher's logits: float32 [slot, class]."""
    assert views.logits is not None
    return views.logits
