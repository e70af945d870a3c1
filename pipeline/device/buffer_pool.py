"""Memory for large arrays that come and go at one size, batch after batch.

The system zeroes fresh pages: for a batch of images that takes longer than filling it. A buffer goes back by itself
when nobody holds an array or tensor on it any more, and not before. Knows nothing of what is written there.
"""

import math
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt


class Buffers:
    """Arrays of float32 on memory that is used again.

    Args:
        keep: free buffers that are kept at most.
    """

    def __init__(self, keep: int = 4) -> None:
        self._free: deque[npt.NDArray[np.float32]] = deque(maxlen=keep)

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """An array with any numbers in it: float32 [shape]. Views of it, and torch's tensors on it, keep it alive."""
        memory = self._of_size(math.prod(shape))
        # By way of a memoryview: numpy lets each later view refer to the first array on it, and not to `memory` itself.
        owner = np.frombuffer(memory.data, np.float32)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)

    def _of_size(self, size: int) -> npt.NDArray[np.float32]:
        """A free buffer of exactly this size, or a new one."""
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if memory.size == size:
                return memory
            self._free.append(memory)
        return np.empty(size, np.float32)
