"""The evaluation set: each image's plain centre view, in the order of the index, and how well logits do on it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from stillroom.pipeline.augment.operations.geometry.crop import Crop, Resize
from stillroom.pipeline.device.streams import streams_of, to_device
from stillroom.pipeline.models.losses import hits, kl_divergence
from stillroom.pipeline.render.backend import Backend
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import Allowance

from .plain_views import plain_requests

_KEEP_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Accuracy:
    """Shares in [0, 1] of the evaluation set, and nats.

    Attributes:
        top1, top5: share whose label is first, or among the first five; None where labels are of other classes.
        kl: mean KL(teacher ‖ model) at temperature 1; None without a teacher.
    """

    top1: float | None
    top5: float | None
    kl: float | None


class EvaluationSet:
    """Plain views of a data set.

    Args:
        data: the ingested evaluation set.
        size: height and width of the images in pixels.
        crop: side of the centred square, as a share of the shorter side.
        batch_size: images in a batch.
        resize: filter from the square to the images.
        backend, threads: how they are rendered.
        to: device that the images are made on; default where they are rendered.
        within: what may be in memory of encoded images; see `Dataset.images`.
    """

    def __init__(
        self,
        data: Dataset,
        size: int,
        crop: float,
        *,
        batch_size: int,
        backend: Backend,
        threads: int,
        resize: Resize = "bilinear",
        to: torch.device | None = None,
        within: Allowance | None = None,
    ) -> None:
        self.data = data
        self.size = size
        self.crop = crop
        self.batch_size = batch_size
        self._within = within
        view = (Crop(resize=resize),)
        self._renderer = Renderer((size,), batch_size, operations=view, backend=backend, threads=threads)
        self._device = to or self._renderer.device
        self._streams = streams_of(self._device)
        self._kept: list[torch.Tensor] | None = None
        self.labels = torch.from_numpy(
            np.concatenate([data.index(shard).label for shard in range(len(data.sizes))]).astype(np.int64)
        )

    def batches(self) -> Iterator[torch.Tensor]:
        """All images in order: float32 [n, 3, size, size] in [0, 1]. A small set is rendered only once."""
        if self._kept is not None:
            yield from map(self._images, self._kept)
            return
        kept: list[torch.Tensor] | None = [] if self._bytes() <= _KEEP_BYTES else None
        for (pixels,) in self._renderer.stream(self._requests()):
            if kept is not None:
                kept.append(pixels[0].clone())
            yield self._images(pixels[0])
        self._kept = kept

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        return to_images(to_device(pixels, self._device))

    def logits(self, model: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """A model's logits on all of it: float32 [sample, class] on the CPU."""
        answers = [self._streams.fetch(model(images).float()) for images in self.batches()]
        return torch.cat([answer.get() for answer in answers])

    def accuracy(self, logits: torch.Tensor, teacher: torch.Tensor | None = None, *, labelled: bool = True) -> Accuracy:
        """How well logits, float32 [sample, class], do; against a teacher's too where there is one.

        Args:
            logits: of the model.
            teacher: logits to compare with.
            labelled: whether the labels are the classes that these logits are of.
        """
        return Accuracy(
            top1=float(hits(logits, self.labels, 1).float().mean()) if labelled else None,
            top5=float(hits(logits, self.labels, 5).float().mean()) if labelled else None,
            kl=None if teacher is None else float(kl_divergence(teacher, logits).mean().clamp_min(0)),
        )

    def key(self, sample: int) -> str:
        """Key of a sample."""
        for shard, size in enumerate(self.data.sizes):
            if sample < size:
                return self.data.index(shard).key[sample]
            sample -= size
        raise IndexError(sample)

    def _bytes(self) -> int:
        return self.data.samples * self.size**2 * 3

    def _requests(self) -> Iterator[Request]:
        for shard in range(len(self.data.sizes)):
            index = self.data.index(shard)
            images = self.data.images(shard, index, self._within)
            yield from plain_requests(index, images, self.crop, self.batch_size, "the evaluation data")
