"""Which image a failed batch failed of: each is rendered alone, after the fact, so that good batches pay nothing."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from stillroom.storage.errors import DataError

from .request import Request

if TYPE_CHECKING:
    from .renderer import Renderer


def culprit(requests: Iterable[Request], alone: Callable[[], "Renderer"]) -> str:
    """The first image that fails alone too, for a message; "a batch" where none does.

    Args:
        requests: those that were under way.
        alone: makes a renderer of one image at a time.
    """
    renderer = alone()
    for request in requests:
        for place, image in enumerate(request.images):
            row = np.array([place])
            try:
                renderer.render(Request([image], [views.take(row) for views in request.views]))
            except DataError:
                return request.names(place) if request.names is not None else f"image {place} of a batch"
    return "a batch"
