"""Feeding a DALI pipeline from arrays as they lie, without a copy and with no work for each sample but its address.

A list of arrays would be copied by DALI under the interpreter's lock, while no other thread of the process runs Python:
a student that launches kernels, say. Here DALI reads the arrays' own memory; they must stay as they are until the
batch has come out, and its decoding threads never take the lock.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from nvidia.dali.tensors import TensorCPU, TensorListCPU


def samples(arrays: Iterable[npt.NDArray[Any]]) -> Any:
    """Arrays of different lengths as one batch for DALI: n contiguous ones of one dtype, which it keeps alive."""
    return TensorListCPU([TensorCPU(array) for array in arrays], contiguous=False)  # type: ignore[call-overload]


def rows(array: npt.NDArray[Any]) -> Any:
    """An array [n, …] as a batch of n samples."""
    return TensorListCPU(np.ascontiguousarray(array))


class Lent:
    """What was lent to DALI, kept until it is done with it.

    DALI's own references keep memory alive as well. But whoever lets go of the last one takes the interpreter's lock,
    once for each sample, and that should not be one of DALI's threads.

    Args:
        batches: that may be under way at once.
    """

    def __init__(self, batches: int) -> None:
        self._batches: deque[Sequence[Any]] = deque(maxlen=batches)

    def keep(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Keep a batch until so many others were lent; the same batch."""
        self._batches.append(batch)
        return batch

    def clear(self) -> None:
        """Let go of all."""
        self._batches.clear()
