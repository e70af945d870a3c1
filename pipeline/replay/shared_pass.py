"""One pass over the data for any number of students: each view is decoded once, and given to all who want it.

What they share is the order of samples and the views; what they want may differ: size, teachers, design.
"""

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.device.prefetch import Ahead
from stillroom.pipeline.device.streams import streams_of, to_device
from stillroom.pipeline.render.backend import Backend
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.pipeline.render.view_digests import Hasher
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import ENCODED_MB, Allowance
from stillroom.storage.errors import ConfigError, StillroomError, ViewMismatchError

from .batch import Batch
from .batch_plan import Rows
from .epoch_order import Order
from .epoch_reader import EpochReader
from .shard_views import logits_of, source_of
from .targets import TargetSource
from .view_check import Prover


@dataclass(frozen=True)
class StudentRequest:
    """What one student wants of a pass.

    Attributes:
        size: height and width of its images in pixels.
        guide: where its logits come from; None for no logits.
        also_size: the same images at this size too.
    """

    size: int
    guide: TargetSource | None = None
    also_size: int | None = None


class SharedPass:
    """Batches of a cache's views, epoch after epoch, for several students at once.

    Args:
        cache: seeds and recipe; and logits where a guide is given.
        data: the ingested data set.
        wants: of each student.
        batch_size: samples in a global batch.
        seed: of the order of samples.
        views: how many views to replay.
        rank, world: this process among how many; each yields its share of every global batch.
        window: data shards of a lane that are held and shuffled together.
        proof_share: share of batches that are proved where no student's size is the teacher's; all are where one is.
        backend: where views are rendered; default the cache's own.
        threads: CPU threads for rendering.
        device: number of the GPU, for `dali-gpu`; default this process's own.
        to: device that batches are put on; default: images stay where they are rendered, the rest is on the CPU.
        allow_drift: another backend than the cache's that may render all the same; its views are not proved.
        encoded_mb: megabytes of encoded images that are held in memory at most.

    Raises:
        StoreError: the data set or the cache is not what the cache was made with.
        ViewMismatchError: the cache's views come from another backend, which is not allowed by name.
        MissingObjectError: logits are missing.
        ConfigError: there are no views, the batch is larger than the data set, or the ranks do not divide the lanes.
    """

    def __init__(
        self,
        cache: Cache,
        data: Dataset,
        wants: Sequence[StudentRequest],
        *,
        batch_size: int,
        seed: int,
        views: int,
        rank: int = 0,
        world: int = 1,
        window: int = 2,
        proof_share: float = 1.0 / 32,
        backend: Backend | None = None,
        threads: int = 2,
        device: int | None = None,
        to: torch.device | None = None,
        allow_drift: Backend | None = None,
        encoded_mb: int = ENCODED_MB,
    ) -> None:
        if views < 1:
            raise ConfigError(f"views is {views}; replay 1 or more")
        self.cache, self.data, self.wants, self.views = cache, data, tuple(wants), views
        self.recipe = Recipe.from_data(cache.info.recipe)
        cache.refuse_other_views({"data": data.description.digest}, except_for=cache.info.views.keys() - {"data"})
        self.order = Order(data.sizes, batch_size, seed, self.recipe.mixup, window)
        if world < 1 or self.order.lanes % world or not 0 <= rank < world:
            raise ConfigError(
                f"rank {rank} of {world} ranks does not fit {self.order.lanes} lanes; the ranks must divide the lanes, "
                f"of which there are as many as data shards ({len(data.sizes)}), rounded down to 1, 2, 4 or 8"
            )
        self.world = world
        guides = dict.fromkeys(want.guide for want in wants if want.guide is not None)
        for guide in guides:
            guide.refuse_gaps(views)
        self.guides = tuple(guides)
        self.backend = _backend(cache, backend, allow_drift, replays=bool(guides))
        self.sizes = tuple(dict.fromkeys(size for want in wants for size in (want.size, want.also_size) if size))
        self._renderer = self._new_renderer(self.sizes, threads, device)
        self._to = to if to is not None and to.type != "cpu" else None
        self.streams = streams_of(self._to or self._renderer.device)
        self._ahead: weakref.ref[Ahead[tuple[Batch, ...]]] | None = None
        provers: dict[str, Prover] = {}
        hasher = Hasher(self.streams)
        proved = guides if self.backend == cache.info.views["renderer"]["backend"] else {}
        for teacher in {guide.first.name: guide.first for guide in proved}.values():
            its_size = teacher.info.size
            again = None if its_size in self.sizes else self._new_renderer((its_size,), threads, device)
            provers[teacher.name] = Prover(cache, teacher, self.sizes, proof_share, again, hasher)
        self._provers = tuple(provers.values())
        self._reader = EpochReader(
            cache,
            data,
            self.order,
            views,
            self.guides,
            tuple(prover.teacher for prover in self._provers),
            rank,
            world,
            Allowance(encoded_mb * 2**20),
        )

    @property
    def steps(self) -> int:
        """Global batches in an epoch."""
        return self.order.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """The batches of an epoch, from number `start` on, one for each student: the same whenever they are asked for.

        Raises:
            ViewMismatchError: a view is not the one that the teacher saw.
            StoreError: something on disk is not what its record says.
            ConfigError: some rank would have no sample of some batch; every rank finds the same.
        """
        self.order.refuse_empty_shares([epoch], self.world)
        before = self._ahead() if self._ahead is not None else None
        if before is not None:
            before.close()
        made = self._made(epoch, start)
        items: Iterator[tuple[Batch, ...]] = made
        ahead: Ahead[tuple[Batch, ...]] | None = None
        if self.streams.beside:
            items = ahead = Ahead(made, self.streams, _tensors)
            self._ahead = weakref.ref(ahead)
        try:
            for _ in range(start, self.steps):
                batches = next(items, None)
                if batches is None:
                    raise StillroomError("another epoch of this loader was begun; a loader replays one epoch at a time")
                yield batches
        finally:
            if ahead is not None:
                ahead.close()
            made.close()

    def _made(self, epoch: int, start: int) -> Generator[tuple[Batch, ...], None, None]:
        """The batches of an epoch; none any more once another is begun. Where proving takes time, it has that of the
        next batch: each is proved before it is given away.
        """
        planned: deque[tuple[Rows, int]] = deque()

        def requests() -> Iterator[Request]:
            for rows in self._reader.rows(epoch, start):
                parts = rows.request().cut(rows.column(lambda shard: shard.index.pixels), len(rows))
                planned.append((rows, len(parts)))
                yield from parts

        rendered = self._renderer.stream(requests())
        begun: deque[Callable[[], tuple[Batch, ...]]] = deque()
        for number in range(start, self.steps):
            first = next(rendered, None)
            if first is None:
                return
            rows, parts = planned.popleft()
            rest = [next(rendered) for _ in range(parts - 1)]
            pixels = [torch.cat(part, dim=1) if rest else part[0] for part in zip(first, *rest, strict=True)]
            begun.append(self._begin(number, rows, pixels))
            if len(begun) > self.streams.beside:
                yield begun.popleft()()
        for finish in begun:
            yield finish()

    def _begin(self, number: int, rows: Rows, rendered: list[torch.Tensor]) -> Callable[[], tuple[Batch, ...]]:
        """Begin to prove a batch's views; gives what finishes it."""
        proofs = {prover.teacher.name: prover.begin(number, rows, rendered) for prover in self._provers}
        return lambda: self._batches(rows, rendered, {name: proof() for name, proof in proofs.items()})

    def _batches(self, rows: Rows, rendered: list[torch.Tensor], proved: Mapping[str, int]) -> tuple[Batch, ...]:
        mix = rows.mix()
        labels = rows.column(lambda shard: shard.index.label).astype(np.int64)
        uids = rows.column(lambda shard: shard.index.uid)[rows.own]
        views = torch.from_numpy(rows.constant(lambda shard: shard.view)[rows.own])
        other = rows.other if self.recipe.mixup else None
        images = {
            size: to_images(self._on_device(pixels[0]), rows.own, other, mix)
            for size, pixels in zip(self.sizes, rendered, strict=True)
        }
        found = []
        for want in self.wants:
            guide, logits, sources = want.guide, None, views
            if guide is not None:
                place = self.guides.index(guide)
                logits = torch.from_numpy(rows.column(partial(logits_of, place))[rows.own])
                sources = torch.from_numpy(rows.constant(partial(source_of, place))[rows.own])
            found.append(
                Batch(
                    images=images[want.size],
                    logits=logits,
                    labels=torch.from_numpy(labels[rows.own]),
                    partner_labels=torch.from_numpy(labels[rows.other]),
                    shares=torch.from_numpy(mix.own_share(want.size)),
                    uids=uids,
                    views=views,
                    sources=sources,
                    other_images=images[want.also_size] if want.also_size is not None else None,
                    proved=proved.get(guide.first.name, 0) if guide is not None else 0,
                )
            )
        return tuple(found if self._to is None else [batch.to(self._to, non_blocking=True) for batch in found])

    def _on_device(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rendered views where they are mixed and used: as uint8, a quarter of the floats that they become."""
        return pixels if self._to is None else to_device(pixels, self._to)

    def _new_renderer(self, sizes: tuple[int, ...], threads: int, device: int | None) -> Renderer:
        # Two more: a pair that two batches share is rendered whole for both.
        batch = self.order.batch_size + 2
        operations = self.recipe.acting
        return Renderer(sizes, batch, operations=operations, backend=self.backend, threads=threads, device=device)


def _tensors(batches: tuple[Batch, ...]) -> list[torch.Tensor]:
    return [tensor for batch in batches for tensor in batch.tensors()]


def _backend(cache: Cache, wanted: Backend | None, allowed: Backend | None, *, replays: bool) -> Backend:
    made_by: Backend = cache.info.views["renderer"]["backend"]
    if replays and wanted not in (None, made_by, allowed):
        raise ViewMismatchError(
            f"the teacher's views were rendered by {made_by}, these would be by {wanted}, which rounds "
            f"differently; use render.backend = {made_by!r}, or render.allow_drift = {wanted!r}, which measures by how "
            "much on the canaries and goes on"
        )
    return wanted or made_by
