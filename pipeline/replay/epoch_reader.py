"""Reading an epoch: what is on disk for each of its batches, read ahead of use and let go after it.

Knows nothing of pixels: what it gives is yet to be rendered.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from stillroom.pipeline.augment.recipe import Recipe
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import Allowance

from .batch_plan import Rows, plan_rows
from .epoch_order import Order, Places, last_uses
from .shard_views import ShardViews, load_shard
from .targets import TargetSource


@dataclass(frozen=True)
class EpochReader:
    """Reads a rank's share of epochs.

    Args:
        cache, data: seeds, logits, digests; images.
        order: of the samples.
        views: how many are replayed.
        guides: whose logits are read.
        provers: teachers whose digests are read.
        rank, world: this process among how many.
        within: what may be in memory of encoded images.
    """

    cache: Cache
    data: Dataset
    order: Order
    views: int
    guides: Sequence[TargetSource]
    provers: Sequence[TeacherLogits]
    rank: int
    world: int
    within: Allowance

    def rows(self, epoch: int, start: int) -> Iterator[Rows]:
        """What to render for each batch from number `start` on. Data shards are read in a thread, ahead of their use.

        Raises:
            StoreError: something on disk is not what its record says.
        """
        places = self.order.places(epoch)
        last_use = last_uses(places, self.order.batch_size, start, self.rank, self.world)
        coming = deque(last_use)
        held: dict[int, Future[ShardViews]] = {}
        pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        try:
            for number in range(start, self.order.steps):
                batch = self._share(places, number)
                needed = [int(shard) for shard in np.unique(batch.shard)]
                while coming and (coming[0] in needed or len(held) < len(needed) + self.order.lanes):
                    shard = coming.popleft()
                    held[shard] = pool.submit(self._load, shard, epoch)
                yield plan_rows(batch, {shard: held[shard].result() for shard in needed})
                for shard in needed:
                    if last_use[shard] == number:
                        del held[shard]
        finally:
            # Whoever leaves an epoch early does not wait for shards that nobody will use.
            pool.shutdown(cancel_futures=True)

    def _share(self, places: Places, batch: int) -> Places:
        """This rank's places of a batch of an epoch's."""
        size = self.order.batch_size
        found = places.slice(batch * size, (batch + 1) * size)
        return found.where(found.lane % self.world == self.rank)

    def _load(self, shard: int, epoch: int) -> ShardViews:
        view = self.order.view(shard, epoch, self.views)
        targets = tuple(guide.targets(self.order, shard, epoch, self.views) for guide in self.guides)
        digests = {teacher.name: teacher.digests(shard, view) for teacher in self.provers}
        recipe = Recipe.from_data(self.cache.info.recipe)
        return load_shard(self.cache, self.data, recipe, shard, view, targets, digests, self.within)
