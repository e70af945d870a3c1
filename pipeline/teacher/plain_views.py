"""Plain views: a centred square of each image, unmixed, as in evaluation; and what a teacher answers to them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.recipe import centre_views
from stillroom.pipeline.device.streams import to_device
from stillroom.pipeline.models.teacher import LoadedTeacher, first_not_finite
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request, sample_names
from stillroom.storage.dataset.encoded_images import picked
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.errors import ModelError


def plain_requests(
    index: ShardIndex,
    images: Sequence[npt.NDArray[np.uint8]],
    crop: float,
    most: int,
    where: str,
    slots: npt.NDArray[np.int64] | None = None,
) -> Iterator[Request]:
    """Batches of plain views, to render.

    Args:
        index, images: of all samples of a data shard.
        crop: side of the centred square, as a share of the shorter side.
        most: images in a batch at most.
        where: what the data are called in messages.
        slots: int64 [n], of some samples; all of them otherwise.
    """
    rows = np.arange(len(index)) if slots is None else slots
    views = centre_views(index.height, index.width, crop).take(rows)
    names = sample_names([index.key[row] for row in rows], where)
    yield from Request(picked(images, rows), [views], names).cut(index.pixels[rows], most)


@dataclass
class PlainMaker:
    """Asks a teacher for plain views.

    Args:
        teacher: who is asked.
        renderer: at the teacher's size, of one view without colour.
        crop: side of the centred square, as a share of the shorter side.
        batch: images that are decoded together.
        where: what the data are called in messages.
    """

    teacher: LoadedTeacher
    renderer: Renderer
    crop: float
    batch: int
    where: str = "the training data"

    def make(
        self,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        slots: npt.NDArray[np.int64] | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> npt.NDArray[np.float32]:
        """The teacher's logits: float32 [n, class].

        Args:
            index, images: of all samples of a data shard.
            slots: int64 [n], of some samples; all of them otherwise.
            advance: called with the number of views done.

        Raises:
            ModelError: a logit is not finite, or the answer is no logits; names the sample.
        """
        rows = np.arange(len(index)) if slots is None else slots
        answers: list[torch.Tensor] = []
        first = 0
        for (pixels,) in self.renderer.stream(plain_requests(index, images, self.crop, self.batch, self.where, slots)):
            batch = rows[first : first + pixels.shape[1]]
            answers.append(self._asked(to_images(to_device(pixels[0], self.teacher.device)), index, batch))
            first += len(batch)
            advance(len(batch))
        return torch.cat(answers).numpy()

    def _asked(self, images: torch.Tensor, index: ShardIndex, slots: npt.NDArray[np.int64]) -> torch.Tensor:
        try:
            answers = self.teacher(images)
        except ModelError as error:
            where = f"the plain view of sample {index.key[slots[0]]!r} (slot {slots[0]}) and those after it"
            raise ModelError(f"{error}, for {where}; nothing was written") from error
        wrong = first_not_finite(answers)
        if wrong is not None:
            slot = int(slots[wrong])
            raise ModelError(
                f"teacher {self.teacher.name!r} gave a logit that is not finite for the plain view of sample "
                f"{index.key[slot]!r} (slot {slot}); nothing was written. Check its weights, or use float32"
            )
        return answers
