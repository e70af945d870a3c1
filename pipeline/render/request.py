"""What is rendered together: encoded images and their views' parameters, cut to what fits into memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.recipe import Views
from stillroom.pipeline.images.batching import runs

DECODED_PIXELS = 64_000_000
"""Of the images that are decoded together, at most: 192 MB; a batch of larger ones is rendered in parts."""


@dataclass(frozen=True)
class Request:
    """A batch to render.

    Attributes:
        images: n encoded images, each uint8 [bytes]; may be fetched only when they are asked for.
        views: the parameters of one or more views of all of them.
        names: from an image's place to what it is called in messages.
    """

    images: Sequence[npt.NDArray[np.uint8]]
    views: Sequence[Views]
    names: Callable[[int], str] | None = None

    def cut(self, pixels: npt.NDArray[np.int64], most: int) -> "list[Request]":
        """The same in parts of at most `most` images whose decoded pixels fit into memory together.

        Args:
            pixels: int64 [n], of each decoded image.
            most: images in a part at most.
        """
        return [
            Request(
                self.images[start:stop],
                [views.take(np.arange(start, stop)) for views in self.views],
                None if self.names is None else _shifted(self.names, start),
            )
            for start, stop in (
                (part[0], part[-1] + 1)
                for part in runs(range(len(pixels)), pixels.tolist().__getitem__, DECODED_PIXELS, most)
            )
        ]


def _shifted(names: Callable[[int], str], start: int) -> Callable[[int], str]:
    return lambda place: names(start + place)


def sample_names(keys: Sequence[str], where: object) -> Callable[[int], str]:
    """Names for messages: each sample's key, and where it is from."""
    return lambda place: f"sample {keys[place]!r} of {where}"
