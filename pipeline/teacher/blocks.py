"""A block of views of one data shard, as the teacher sees it: rendered several views to a decode, mixed, classified.

On a GPU nothing waits for the teacher: while it answers for some views, the next ones are decoded and rendered.
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.device.streams import Arrival, Streams, streams_of, to_device
from stillroom.pipeline.models.losses import entropy, hits
from stillroom.pipeline.models.teacher import LoadedTeacher, first_not_finite
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request, sample_names
from stillroom.pipeline.render.view_digests import Hasher
from stillroom.storage.dataset.encoded_images import picked
from stillroom.storage.dataset.index import NO_LABEL, ShardIndex
from stillroom.storage.errors import ModelError

Take = Callable[[int, npt.NDArray[np.int64], npt.NDArray[np.float32]], None]
"""Takes the teacher's logits for some samples of a view, as it answers: the view's place among those asked for, slots
int64 [n], and logits float32 [n, class]. Each slot of each view comes once, in any order."""


@dataclass(frozen=True)
class Block:
    """What is known of v views of n samples, beside their logits.

    Attributes:
        digests: uint16 [v, n].
        kept: uint8 [size, size, 3] by (view of the block, slot), before mixing.
        entropy: mean over all, in nats.
        top1: share whose label is the teacher's first choice; where mixed, the label of the larger part. None where
            there are no labels.
    """

    digests: npt.NDArray[np.uint16]
    kept: Mapping[tuple[int, int], npt.NDArray[np.uint8]]
    entropy: float
    top1: float | None


@dataclass
class BlockMaker:
    """Renders blocks and asks the teacher. Built once per worker.

    Args:
        teacher: who is asked.
        recipe: how views are drawn.
        renderer: at the teacher's size.
        batch: images that are decoded together.
        held: rendered views that are held at once, at most, where a data shard has more samples: whole batches of the
            teacher and whole pairs, and then the renderer makes one view at a time. See `held_at_once`.
    """

    teacher: LoadedTeacher
    recipe: Recipe
    renderer: Renderer
    batch: int
    held: int = sys.maxsize
    streams: Streams = field(init=False)
    hasher: Hasher = field(init=False)

    def __post_init__(self) -> None:
        self.streams = streams_of(self.teacher.device)
        self.hasher = Hasher(self.streams)

    def make(
        self,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        seeds: npt.NDArray[np.uint64],
        views: Sequence[int],
        take: Take,
        keep: Sequence[tuple[int, int]] = (),
        advance: Callable[[int], None] = lambda _: None,
    ) -> Block:
        """Make a block.

        Args:
            index, images, seeds: of all n samples of a data shard.
            views: numbers of the views.
            take: given the logits.
            keep: (place in `views`, slot) of views to keep whole.
            advance: called with the number of views done.

        Raises:
            ModelError: a logit is not finite; names the sample and the view.
        """
        count = len(index)
        found = np.empty((len(views), count), np.uint16)
        kept: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        labels = torch.from_numpy(index.label.astype(np.int64))
        correct, entropies = 0, 0.0

        def finish(asked: _Asked) -> None:
            nonlocal correct, entropies
            answers, slots = asked.answers.get(), asked.slots
            self._refuse_infinite(answers, index, asked.view, slots)
            correct += int(hits(answers, labels[torch.from_numpy(asked.larger)], 1).sum())
            entropies += float(entropy(answers).double().sum())
            take(asked.place, slots, answers.numpy())
            found[asked.place, asked.rows] = asked.digests()
            advance(len(slots))

        coming: deque[_Asked] = deque()
        for first in range(0, len(views), self.renderer.views):
            # The last pass may have fewer views left than the graph has branches; it renders some once more.
            some = views[first : first + self.renderer.views]
            padded = [*some, *[some[-1]] * (self.renderer.views - len(some))]
            for rows in self._parts(seeds, some):
                pixels = self._render(index, images, seeds, padded, rows)
                while coming:  # what was asked before: answered while this was rendered
                    finish(coming.popleft())
                row = np.full(count, -1)
                row[rows] = np.arange(len(rows))
                for place, view in enumerate(some, first):
                    mine = pixels[place - first]
                    hashed = self.hasher.begin(mine)
                    for number, slot in keep:
                        if number == place and row[slot] >= 0:
                            kept[number, slot] = mine[row[slot]].cpu().numpy().copy()
                    mix = self.recipe.mixing.draw(seeds, view)
                    slots = rows if len(rows) < count else self.recipe.mixing.pair_order(seeds, view).astype(np.int64)
                    mix = mix.take(slots)
                    answers = self._classify(mine, row[slots], row[mix.partner], mix, index, view, slots)
                    larger = np.where(mix.own_share(mine.shape[1]) >= 0.5, slots, mix.partner)
                    asked = _Asked(view, place, rows, slots, larger, answers, hashed)
                    if answers.late:
                        coming.append(asked)
                    else:
                        finish(asked)
        for asked in coming:
            finish(asked)
        share_correct = correct / found.size if (index.label != NO_LABEL).all() else None
        return Block(found, kept, entropies / found.size, share_correct)

    def answer(
        self,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        seeds: npt.NDArray[np.uint64],
        view: int,
        slots: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """The teacher's logits for one view of some samples of a data shard: float32 [n, class].

        The same views as in a block, mixed with the same partners, which are rendered too.

        Args:
            index, images, seeds: of all samples of the data shard.
            view: the view's number.
            slots: int64 [n].

        Raises:
            ModelError: a logit is not finite; names the sample and the view.
        """
        mix = self.recipe.mixing.draw(seeds, view).take(slots)
        rows = np.union1d(slots, mix.partner).astype(np.int64)
        pixels = self._render(index, images, seeds, [view] * self.renderer.views, rows)[0]
        own, other = np.searchsorted(rows, slots), np.searchsorted(rows, mix.partner)
        answers = self._classify(pixels, own, other, mix, index, view, slots).get()
        self._refuse_infinite(answers, index, view, slots)
        return answers.numpy()

    def _parts(self, seeds: npt.NDArray[np.uint64], views: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
        """Slots of a data shard that are rendered together: all of them, or runs of one view's order of pairs.

        The teacher is asked in that order in any case, so that its batches are the same whatever memory there is.
        """
        if len(seeds) <= self.held:
            yield np.arange(len(seeds))
            return
        assert len(views) == 1
        order = self.recipe.mixing.pair_order(seeds, views[0]).astype(np.int64)
        for start in range(0, len(order), self.held):
            yield order[start : start + self.held]

    def _render(
        self,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        seeds: npt.NDArray[np.uint64],
        views: Sequence[int],
        rows: npt.NDArray[np.int64],
    ) -> torch.Tensor:
        """uint8 [view, row, size, size, 3]: some slots."""
        drawn = [draw_views(self.recipe, seeds, view, index.height, index.width).take(rows) for view in views]
        rendered: torch.Tensor | None = None
        start = 0
        names = sample_names([index.key[row] for row in rows], "the training data")
        request = Request(picked(images, rows), drawn, names)
        for (pixels,) in self.renderer.stream(request.cut(index.pixels[rows], self.batch)):
            if rendered is None:
                rendered = pixels.new_empty((len(views), len(rows), *pixels.shape[2:]))
            stop = start + pixels.shape[1]
            rendered[:, start:stop] = pixels
            start = stop
        assert rendered is not None
        return rendered

    def _classify(
        self,
        pixels: torch.Tensor,
        own: npt.NDArray[np.int64],
        other: npt.NDArray[np.int64],
        mix: Mix,
        index: ShardIndex,
        view: int,
        slots: npt.NDArray[np.int64],
    ) -> Arrival:
        """Logits float32 [n, class] of mixed views: `own` and `other` are rows of pixels, `mix` says how, all [n]."""
        answers = []
        pixels = to_device(pixels, self.teacher.device)  # as uint8: a quarter of the floats, which are made there
        for start in range(0, len(own), self.teacher.batch_size):
            part = slice(start, start + self.teacher.batch_size)
            rows = np.arange(*part.indices(len(own)))
            mixed = to_images(pixels, own[part], other[part] if self.recipe.mixup else None, mix.take(rows))
            try:
                answers.append(self.teacher.ask(mixed))
            except ModelError as error:
                slot = int(slots[start])
                where = f"view {view} of sample {index.key[slot]!r} (slot {slot}) and those after it"
                raise ModelError(f"{error}, for {where}; nothing was written") from error
        return self.streams.fetch(torch.cat(answers))

    def _refuse_infinite(
        self, answers: torch.Tensor, index: ShardIndex, view: int, slots: npt.NDArray[np.int64]
    ) -> None:
        row = first_not_finite(answers)
        if row is not None:
            slot = int(slots[row])
            raise ModelError(
                f"teacher {self.teacher.name!r} gave a logit that is not finite for view {view} of sample "
                f"{index.key[slot]!r} (slot {slot}); nothing was written. Check its weights, or use float32"
            )


@dataclass(frozen=True)
class _Asked:
    """Samples of a view that the teacher was asked about.

    Attributes:
        view: its number.
        place: among the views asked for.
        rows: slots that were rendered, int64 [m].
        slots: those that were asked about, int64 [n].
        larger: slots of the larger parts, [n].
        answers: float32 [n, class].
        digests: gives uint16 [m].
    """

    view: int
    place: int
    rows: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    larger: npt.NDArray[np.integer]
    answers: Arrival
    digests: Callable[[], npt.NDArray[np.uint16]]


def views_at_once(samples: int, size: int, views: int, memory_mb: int) -> int:
    """How many views of a whole data shard fit into memory, rendered: at least one, at most all of a block.

    The largest number that leaves passes of nearly equal length.
    """
    fit = max(1, memory_mb * 2**20 // (samples * size * size * 3))
    passes = -(-views // min(views, fit))
    return -(-views // passes)


def held_at_once(size: int, memory_mb: int, batch_size: int) -> int:
    """How many rendered views fit into memory: whole batches of the teacher and whole pairs, at least one such run."""
    step = math.lcm(2, batch_size)
    return max(1, memory_mb * 2**20 // (size * size * 3 * step)) * step
