"""The painter: carries out the steps that were drawn for a batch, on whatever device its views are."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from stillroom.pipeline.augment.steps import Kind, Steps

from . import compiled, tensors
from .placed import placed


class Painter:
    """Works on batches of views, one after another.

    Args:
        threads: of the CPU, where views are there.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def paint(self, views: torch.Tensor, drawn: Sequence[Steps]) -> None:
        """Carry out steps in place.

        Args:
            views: uint8 [n, size, size, 3].
            drawn: int32 [n, k, 8] of each operation, in order.
        """
        steps = np.concatenate(drawn, axis=1)
        kinds = steps[:, :, 0]
        assert kinds.max(initial=0) <= max(Kind), "a kind of step that is not here"
        rows = np.flatnonzero(kinds.any(axis=1))
        if not len(rows):
            return
        work = placed(steps, views.shape[1])
        if views.device.type != "cpu":
            tensors.paint(views, work)
            return
        pixels = views.numpy()
        parts = np.array_split(np.arange(len(pixels)), min(self._threads, len(pixels)))
        if len(parts) == 1:
            compiled.paint(pixels, work.steps, work.filters)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="pixels")
        cuts = [slice(part[0], part[-1] + 1) for part in parts]
        done = [self._pool.submit(compiled.paint, pixels[cut], work.steps[cut], work.filters) for cut in cuts]
        for part in done:
            part.result()
