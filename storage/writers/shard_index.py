"""A Zarr shard by the format's own rules (codec "sharding_indexed"): encoded inner chunks, and last an index of them.

So that one can be put together from chunks that were encoded one by one, which Zarr does only by rewriting it for each.
"""

from collections.abc import Sequence
from itertools import accumulate

import google_crc32c
import numpy as np

_CHECKSUM = 4
"""Bytes of the checksum that ends the index."""


def index_of(sizes: Sequence[int]) -> bytes:
    """What follows the encoded inner chunks of a shard, which are all there, one behind the other in C order.

    Args:
        sizes: of the chunks, in bytes.
    """
    starts = [0, *accumulate(sizes)][:-1]
    index = np.array([starts, sizes], "<u8").T.tobytes()
    checksum: int = google_crc32c.value(index)
    return index + checksum.to_bytes(_CHECKSUM, "little")
