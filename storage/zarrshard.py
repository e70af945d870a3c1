"""A Zarr shard by the format's own rules (codec "sharding_indexed"): encoded inner chunks, and last an index of them.

So that one can be put together from chunks that were encoded one by one, which Zarr does only by rewriting it for each.
"""

from collections.abc import Sequence
from itertools import accumulate

import google_crc32c
import numpy as np

_CHECKSUM = 4
"""Bytes of the checksum that ends the index."""


def assemble(chunks: Sequence[bytes]) -> bytes:
    """A shard of encoded inner chunks, which are all there: in C order, as the index and the data have them."""
    sizes = [len(chunk) for chunk in chunks]
    starts = [0, *accumulate(sizes)][:-1]
    index = np.array([starts, sizes], "<u8").T.tobytes()
    return b"".join([*chunks, index, google_crc32c.value(index).to_bytes(_CHECKSUM, "little")])
