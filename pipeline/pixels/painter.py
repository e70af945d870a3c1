"""The painter: resizes windows, and carries out the steps that were drawn for a batch, wherever its views are."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.steps import Kind, Steps

from . import compiled, tensors
from .placed import Placed, placed
from .resize import resize


class Painter:
    """Works on batches of views, one after another.

    Args:
        threads: of the CPU, where views are there.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def make(
        self,
        windows: Sequence[npt.NDArray[np.uint8]],
        views: torch.Tensor,
        drawn: Sequence[Steps],
        *,
        cubic: bool,
        antialias: bool,
    ) -> None:
        """Resize windows into views on the CPU, and carry out steps.

        Args:
            windows: n, uint8 [height, width, 3] each.
            views: uint8 [n, size, size, 3], is written.
            drawn: int32 [n, k, 8] of each operation, in order.
            cubic, antialias: the filter; see `resize`.
        """
        work = _work(drawn, views.shape[1])
        pixels = views.numpy()

        def one_part(part: slice) -> None:
            for window, view in zip(windows[part], pixels[part], strict=True):
                resize(window, view, cubic, antialias)
            if work is not None:
                _paint(pixels[part], work, part)

        self._in_parts(len(pixels), one_part)

    def paint(self, views: torch.Tensor, drawn: Sequence[Steps]) -> None:
        """Carry out steps in place.

        Args:
            views: uint8 [n, size, size, 3].
            drawn: int32 [n, k, 8] of each operation, in order.
        """
        work = _work(drawn, views.shape[1])
        if work is None:
            return
        if views.device.type != "cpu":
            tensors.paint(views, work)
            return
        pixels = views.numpy()
        self._in_parts(len(pixels), lambda part: _paint(pixels[part], work, part))

    def _in_parts(self, count: int, work: Callable[[slice], None]) -> None:
        """Share out n views among the threads; none of the work holds the interpreter's lock."""
        cuts = np.linspace(0, count, min(self._threads, count) + 1).astype(int).tolist()
        parts = [slice(start, stop) for start, stop in pairwise(cuts)]
        if len(parts) > 1 and self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="pixels")
        done = [self._pool.submit(work, part) for part in parts[1:]] if self._pool is not None else []
        for part in parts[:1]:
            work(part)
        for each in done:
            each.result()


def _paint(pixels: npt.NDArray[np.uint8], work: Placed, part: slice) -> None:
    steps = work.steps[part]
    if np.isin(steps[:, :, 0], (Kind.NOTHING, Kind.MIRROR)).all():
        compiled.paint_mirrored(pixels, steps)
    else:
        compiled.paint(pixels, steps, work.filters)


def _work(drawn: Sequence[Steps], size: int) -> Placed | None:
    """Steps at a size; None where there are none."""
    if not drawn:
        return None
    steps = np.concatenate(drawn, axis=1)
    kinds = steps[:, :, 0]
    assert kinds.max(initial=0) <= max(Kind), "a kind of step that is not here"
    return placed(steps, size) if kinds.any() else None
