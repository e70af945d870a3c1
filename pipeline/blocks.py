"""A block of views of one data shard, as the teacher sees it: rendered several views to a decode, mixed, classified.

On a GPU nothing waits for the teacher: while it answers for some views, the next ones are decoded and rendered.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from ..storage.errors import ModelError
from ..storage.index import NO_LABEL, ShardIndex
from .hashing import Hasher
from .lanes import Arrival, Lane, lane_of, to_device
from .losses import entropy, hits
from .mix import to_images
from .recipe import Recipe, draw_partners, draw_views
from .render import Renderer
from .request import Request, sample_names
from .teach import LoadedTeacher, first_not_finite


@dataclass(frozen=True)
class Block:
    """What the teacher made of v views of n samples.

    Attributes:
        logits: float32 [v, n, class].
        digests: uint16 [v, n].
        kept: uint8 [size, size, 3] by (view of the block, slot), before mixing.
        entropy: mean over all, in nats.
        top1: share whose label is the teacher's first choice; where mixed, the label of the larger part. None where
            there are no labels.
    """

    logits: npt.NDArray[np.float32]
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
    """

    teacher: LoadedTeacher
    recipe: Recipe
    renderer: Renderer
    batch: int
    lane: Lane = field(init=False)
    hasher: Hasher = field(init=False)

    def __post_init__(self) -> None:
        self.lane = lane_of(self.teacher.device)
        self.hasher = Hasher(self.lane)

    def make(
        self,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        seeds: npt.NDArray[np.uint64],
        views: Sequence[int],
        keep: Sequence[tuple[int, int]] = (),
        advance: Callable[[int], None] = lambda _: None,
    ) -> Block:
        """Make a block.

        Args:
            index, images, seeds: of all n samples of a data shard.
            views: numbers of the views; as many at a time are held rendered as the renderer makes.
            keep: (place in `views`, slot) of views to keep whole.
            advance: called with the number of views done.

        Raises:
            ModelError: a logit is not finite; names the sample and the view.
        """
        logits: list[torch.Tensor] = []
        found: list[npt.NDArray[np.uint16]] = []
        kept: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        labels = torch.from_numpy(index.label.astype(np.int64))
        every = np.arange(len(index))
        correct = 0

        def finish(asked: _Asked) -> None:
            nonlocal correct
            answers = asked.answers.get()
            self._refuse_infinite(answers, index, asked.view, every)
            larger = torch.from_numpy(np.where(asked.share >= 0.5, every, asked.partner).astype(np.int64))
            correct += int(hits(answers, labels[larger], 1).sum())
            logits.append(answers)
            found.append(asked.digests())
            advance(len(index))

        coming: deque[_Asked] = deque()
        for first in range(0, len(views), self.renderer.views):
            # The last pass may have fewer views left than the graph has branches; it renders some once more.
            some = views[first : first + self.renderer.views]
            padded = [*some, *[some[-1]] * (self.renderer.views - len(some))]
            pixels = self._render(index, images, seeds, padded)
            while coming:  # the pass before: answered while this one was rendered
                finish(coming.popleft())
            for place, view in enumerate(some):
                hashed = self.hasher.begin(pixels[place])
                for number, slot in keep:
                    if number == first + place:
                        kept[number, slot] = pixels[place, slot].cpu().numpy().copy()
                partner, share = draw_partners(self.recipe, seeds, view)
                answers = self._classify(pixels[place], every, partner.astype(np.int64), share, index, view, every)
                asked = _Asked(view, partner, share, answers, hashed)
                if answers.late:
                    coming.append(asked)
                else:
                    finish(asked)
        for asked in coming:
            finish(asked)
        stacked = torch.stack(logits)
        mean_entropy = float(entropy(stacked.flatten(0, 1)).mean())
        share_correct = correct / (len(views) * len(index)) if (index.label != NO_LABEL).all() else None
        return Block(stacked.numpy(), np.stack(found), kept, mean_entropy, share_correct)

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
        partner, share = draw_partners(self.recipe, seeds, view)
        rows = np.union1d(slots, partner[slots]).astype(np.int64)
        pixels = self._render(index, images, seeds, [view] * self.renderer.views, rows)[0]
        own, other = np.searchsorted(rows, slots), np.searchsorted(rows, partner[slots])
        answers = self._classify(pixels, own, other, share[slots], index, view, slots).get()
        self._refuse_infinite(answers, index, view, slots)
        return answers.numpy()

    def _render(
        self,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        seeds: npt.NDArray[np.uint64],
        views: Sequence[int],
        rows: npt.NDArray[np.int64] | None = None,
    ) -> torch.Tensor:
        """uint8 [view, row, size, size, 3]: some slots, or the whole data shard with both halves of every pair."""
        rows = np.arange(len(index)) if rows is None else rows
        drawn = [draw_views(self.recipe, seeds, view, index.height, index.width).take(rows) for view in views]
        rendered: torch.Tensor | None = None
        start = 0
        names = sample_names([index.key[row] for row in rows], "the training data")
        request = Request([images[row] for row in rows], drawn, names)
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
        share: npt.NDArray[np.float32],
        index: ShardIndex,
        view: int,
        slots: npt.NDArray[np.int64],
    ) -> Arrival:
        """Logits float32 [n, class] of mixed views: `own` and `other` are rows of the pixels, `share` is λ, all [n]."""
        answers = []
        pixels = to_device(pixels, self.teacher.device)  # as uint8: a quarter of the floats, which are made there
        for start in range(0, len(own), self.teacher.batch_size):
            part = slice(start, start + self.teacher.batch_size)
            mixed = to_images(pixels, own[part], other[part] if self.recipe.mixup else None, share[part])
            try:
                answers.append(self.teacher.ask(mixed))
            except ModelError as error:
                slot = int(slots[start])
                where = f"view {view} of sample {index.key[slot]!r} (slot {slot}) and those after it"
                raise ModelError(f"{error}, for {where}; nothing was written") from error
        return self.lane.fetch(torch.cat(answers))

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
    """A view that the teacher was asked about.

    Attributes:
        view: its number.
        partner, share: of each sample.
        answers: float32 [n, class].
        digests: gives uint16 [n].
    """

    view: int
    partner: npt.NDArray[np.int32]
    share: npt.NDArray[np.float32]
    answers: Arrival
    digests: Callable[[], npt.NDArray[np.uint16]]


def views_at_once(samples: int, size: int, views: int, memory_mb: int) -> int:
    """How many views of a data shard fit into memory, rendered: at least one, at most all of a block.

    The largest number that leaves passes of nearly equal length.
    """
    fit = max(1, memory_mb * 2**20 // (samples * size * size * 3))
    passes = -(-views // min(views, fit))
    return -(-views // passes)
