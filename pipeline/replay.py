"""The replay loader: a student's batches, the views that the teacher saw beside the logits that it gave them.

It never sees the teacher. It proves what it hands out: each view's digest is compared with the one the teacher left.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.errors import ConfigError, StillroomError, ViewMismatchError
from ..storage.urls import open_place
from .guide import Design, Guide
from .mix import to_images
from .order import Order
from .plan import Rows, plan_rows
from .prove import Prover
from .recipe import Recipe
from .render import Backend, Renderer, Request
from .shardviews import ShardViews, load_shard, teacher_logits


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch: n samples.

    Attributes:
        images: float32 [n, 3, size, size] in [0, 1], mixed, in channels-last memory.
        logits: float32 [n, class], the teacher's for exactly these images; None where no teacher was asked for.
        labels: int64 [n], of each sample.
        partner_labels: int64 [n], of whom it is mixed with (itself where alone).
        shares: float32 [n], λ: the sample's own part of its image.
        uids: uint64 [n].
        views: int64 [n], number of the view.
        sources: int64 [n], number of the view that the logits are of: the same, but for other designs than consistent;
            −1 for the plain one.
        other_images: the same images at `also_size`, float32 [n, 3, also_size, also_size]; None unless asked for.
        proved: how many rendered views were compared with the teacher's digests.
    """

    images: torch.Tensor
    logits: torch.Tensor | None
    labels: torch.Tensor
    partner_labels: torch.Tensor
    shares: torch.Tensor
    uids: npt.NDArray[np.uint64]
    views: torch.Tensor
    sources: torch.Tensor
    other_images: torch.Tensor | None
    proved: int

    def __len__(self) -> int:
        return len(self.labels)

    def pieces(self, count: int) -> "list[Batch]":
        """The same samples in at most `count` batches of nearly equal size."""
        cuts = np.linspace(0, len(self), min(count, len(self)) + 1).astype(int)
        return [self._slice(slice(start, stop)) for start, stop in itertools.pairwise(cuts)]

    def _slice(self, rows: slice) -> "Batch":
        columns: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        whole = ("proved",)
        return Batch(
            **{name: value if value is None or name in whole else value[rows] for name, value in columns.items()}
        )


class ReplayLoader:
    """Batches of a cache's views, epoch after epoch.

    Args:
        cache: seeds and recipe; and logits where a teacher is named.
        data: the ingested data set, or where it is.
        batch_size: samples in a global batch.
        size: height and width of the images in pixels.
        seed: of the order of samples.
        rank, world: this process among how many; each yields its share of every global batch.
        teacher: whose logits; default the cache's only one; "" for none; several names for the mean of their logits.
        weights: of each of several teachers in that mean; default all alike.
        design: how views and logits are paired; see `guide`.
        views: how many views to replay; default all that the teacher has finished.
        also_size: render each view at this size too.
        window: data shards of a lane that are held and shuffled together.
        proof_share: share of batches that are proved where `size` is not the teacher's; all are where it is.
        backend: where views are rendered; default the cache's own.
        threads: CPU threads for rendering.
        device: number of the GPU, for `dali-gpu`.

    Raises:
        StoreError: the data set or the cache is not what the cache was made with.
        ViewMismatchError: the cache's views come from another backend.
        ConfigError: the batch is larger than the data set, the ranks do not divide the lanes, or no teacher is named
            and the cache has several.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        data: Dataset | str,
        batch_size: int,
        size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        teacher: str | Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        design: Design = "consistent",
        views: int | None = None,
        also_size: int | None = None,
        window: int = 2,
        proof_share: float = 1.0 / 32,
        backend: Backend | None = None,
        threads: int = 2,
        device: int = 0,
    ) -> None:
        self.cache = cache
        self.data = Dataset(open_place(data)) if isinstance(data, str) else data
        self.recipe = Recipe.from_data(dict(cache.info.recipe))
        made_by: Backend = cache.info.views["renderer"]["backend"]
        self.backend: Backend = backend or made_by
        cache.refuse_other_views({"data": self.data.description.digest}, except_for=cache.info.views.keys() - {"data"})
        self.order = Order(self.data.sizes, batch_size, seed, self.recipe.mixup, window)
        if self.order.lanes % world or not 0 <= rank < world:
            raise ConfigError(
                f"rank {rank} of {world} ranks does not fit {self.order.lanes} lanes; the ranks must divide the lanes"
            )
        self.rank, self.world = rank, world
        self.order.refuse_empty_shares(0, world)
        names = [_only_teacher(cache)] if teacher is None else [teacher] if isinstance(teacher, str) else list(teacher)
        self.guide = Guide.of(cache, names, weights, design, size) if names != [""] else None
        self.teacher = self.guide.first if self.guide is not None else None
        self.views = _views(self.guide, views)
        if self.teacher is not None and self.backend != made_by:
            raise ViewMismatchError(
                f"the teacher's views were rendered by {made_by}, these would be by {self.backend}, which rounds "
                f"differently; use render.backend = {made_by!r}"
            )
        self.size, self.also_size = size, also_size
        sizes = (size,) if also_size in (None, size) else (size, also_size or size)
        self._renderer = self._new_renderer(sizes, threads, device)
        self._prover: Prover | None = None
        if self.teacher is not None:
            its_size = self.teacher.info.size
            again = None if its_size in sizes else self._new_renderer((its_size,), threads, device)
            self._prover = Prover(cache, self.teacher, sizes, proof_share, again)

    @property
    def steps(self) -> int:
        """Global batches in an epoch."""
        return self.order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on: the same whenever and wherever they are asked for.

        Raises:
            ViewMismatchError: a view is not the one that the teacher saw.
            StoreError: something on disk is not what its record says.
        """
        planned: deque[tuple[Rows, int]] = deque()

        def requests() -> Iterator[Request]:
            for rows in self._plans(epoch, start):
                parts = rows.request().cut(rows.column(lambda shard: shard.index.pixels), len(rows))
                planned.append((rows, len(parts)))
                yield from parts

        rendered = self._renderer.stream(requests())
        for number in range(start, self.steps):
            first = next(rendered, None)
            if first is None:
                raise StillroomError("another epoch of this loader was begun; a loader replays one epoch at a time")
            rows, parts = planned.popleft()
            rest = [next(rendered) for _ in range(parts - 1)]
            pixels = [torch.cat(part, dim=1) if rest else part[0] for part in zip(first, *rest, strict=True)]
            yield self._batch(number, rows, pixels)

    def _plans(self, epoch: int, start: int) -> Iterator[Rows]:
        """Plans of the batches; data shards are read in a thread, ahead of their first use."""
        self.order.refuse_empty_shares(epoch, self.world)
        places = self.order.places(epoch)
        size = self.order.batch_size
        mine = places.lane % self.world == self.rank
        cuts = [slice(k * size, (k + 1) * size) for k in range(start, self.steps)]
        batches = [places.slice(cut.start, cut.stop).where(mine[cut]) for cut in cuts]
        needed = [[int(shard) for shard in np.unique(batch.shard)] for batch in batches]
        last_use = {shard: k for k, shards in enumerate(needed) for shard in shards}
        coming = deque(dict.fromkeys(shard for shards in needed for shard in shards))
        held: dict[int, Future[ShardViews]] = {}
        pool = ThreadPoolExecutor(1, thread_name_prefix="shards")
        try:
            for k, batch in enumerate(batches):
                while coming and (coming[0] in needed[k] or len(held) < len(needed[k]) + self.order.lanes):
                    shard = coming.popleft()
                    held[shard] = self._load(pool, shard, epoch)
                yield plan_rows(batch, {shard: held[shard].result() for shard in needed[k]})
                for shard in needed[k]:
                    if last_use[shard] == k:
                        del held[shard]
        finally:
            # Whoever leaves an epoch early does not wait for shards that nobody will use.
            pool.shutdown(cancel_futures=True)

    def _load(self, pool: ThreadPoolExecutor, shard: int, epoch: int) -> "Future[ShardViews]":
        view = self.order.view(shard, epoch, self.views)
        source = view if self.guide is None else self.guide.source(self.order, shard, epoch, self.views)
        return pool.submit(load_shard, self.cache, self.data, self.recipe, shard, view, self.guide, source)

    def _batch(self, number: int, rows: Rows, rendered: list[torch.Tensor]) -> Batch:
        proved = self._prover.prove(number, rows, rendered) if self._prover is not None else 0
        shares = rows.column(lambda shard: shard.share)
        labels = rows.column(lambda shard: shard.index.label).astype(np.int64)
        views, sources = (
            torch.from_numpy(np.array(column, np.int64)[rows.shard][rows.own])
            for column in ([shard.view for shard in rows.shards], [shard.source for shard in rows.shards])
        )
        other = rows.other if self.recipe.mixup else None
        images = [to_images(pixels[0], rows.own, other, shares[rows.own]) for pixels in rendered]
        return Batch(
            images=images[0],
            logits=torch.from_numpy(rows.column(teacher_logits)[rows.own]) if self.teacher is not None else None,
            labels=torch.from_numpy(labels[rows.own]),
            partner_labels=torch.from_numpy(labels[rows.other]),
            shares=torch.from_numpy(shares[rows.own]),
            uids=rows.column(lambda shard: shard.index.uid)[rows.own],
            views=views,
            sources=sources,
            other_images=images[-1] if self.also_size is not None else None,
            proved=proved,
        )

    def _new_renderer(self, sizes: tuple[int, ...], threads: int, device: int) -> Renderer:
        # Two more: a pair that two batches share is rendered whole for both.
        batch = self.order.batch_size + 2
        return Renderer(sizes, batch, colour=self.recipe.colour, backend=self.backend, threads=threads, device=device)


def _views(guide: Guide | None, views: int | None) -> int:
    if guide is None:
        if views is None:
            raise ConfigError("without a teacher, say how many views there are")
        return views
    used = min(teacher.finished_views() for teacher in guide.teachers) if views is None else views
    guide.refuse_gaps(used)
    return used


def _only_teacher(cache: Cache) -> str:
    names = cache.teachers
    if len(names) != 1:
        raise ConfigError(f"the cache has {len(names)} teachers ({', '.join(names) or 'none'}); name the one to replay")
    return names[0]
