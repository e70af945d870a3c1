"""Philox4x32-10 over many counters as one compiled loop: the words of `philox`, without the interpreter's lock."""

import numpy as np
import numpy.typing as npt

from stillroom.storage.jit import compiled

_Words = npt.NDArray[np.uint32]


@compiled
def fill_words(
    counter: tuple[_Words, _Words, _Words, _Words],
    key: tuple[_Words, _Words],
    found: tuple[_Words, _Words, _Words, _Words],
) -> None:
    """Fill `found` with the words of n counters and keys: uint32 [n] each."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    first, second = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
    for row in range(len(found[0])):
        c0, c1 = np.uint64(counter[0][row]), np.uint64(counter[1][row])
        c2, c3 = np.uint64(counter[2][row]), np.uint64(counter[3][row])
        k0, k1 = np.uint64(key[0][row]), np.uint64(key[1][row])
        for _ in range(10):
            product0, product1 = c0 * first, c2 * second
            c0, c1 = (product1 >> half) ^ c1 ^ k0, product1 & low
            c2, c3 = (product0 >> half) ^ c3 ^ k1, product0 & low
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
        found[0][row], found[1][row] = np.uint32(c0), np.uint32(c1)
        found[2][row], found[3][row] = np.uint32(c2), np.uint32(c3)
