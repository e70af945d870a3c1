"""Digests of views that are still on a GPU: copied and hashed beside its other work, and asked for later.

Knows pixels and lanes; nothing of caches or teachers.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.device.streams import Streams

from .renderer import digests


class Hasher:
    """Hashes views, in a thread of its own where they have to be waited for.

    Args:
        streams: by which they come to the host.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, pixels: torch.Tensor) -> Callable[[], npt.NDArray[np.uint16]]:
        """Begin to hash views: uint8 [n, height, width, 3], contiguous, not to be changed until they are hashed.

        Returns:
            What gives their digests, uint16 [n], and waits for them; see `renderer.digests`.
        """
        arrival = self._streams.fetch(pixels)
        if not arrival.late:
            found = digests(arrival.get())
            return lambda: found
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="digests")
        return self._pool.submit(lambda: digests(arrival.get())).result
