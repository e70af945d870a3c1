"""Philox4x32-10, the counter-based generator that every draw comes from.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; checked against the known
answers of Random123. Pure arithmetic on integers: the same words on every machine, for any batch, in any order.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
_ROUNDS = 10
_MANY = 16
"""Counters from which on the loop is compiled."""
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], key: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[Words, Words, Words, Words]:
    """Four random words for each counter and key.

    Args:
        counter: four uint32 arrays, or numbers, that broadcast with each other and with the key.
        key: two of the same.

    Returns:
        Four uint32 arrays of the broadcast shape.
    """
    arrays = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint32) for word in (*counter, *key)))
    if arrays[0].size >= _MANY:
        return _compiled(arrays)
    c0, c1, c2, c3, k0, k1 = (np.array(word) for word in arrays)
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            product0 = c0.astype(np.uint64) * _MULTIPLIERS[0]
            product1 = c2.astype(np.uint64) * _MULTIPLIERS[1]
            c0 = (product1 >> _HALF).astype(np.uint32) ^ c1 ^ k0
            c2 = (product0 >> _HALF).astype(np.uint32) ^ c3 ^ k1
            c1 = (product1 & _LOW).astype(np.uint32)
            c3 = (product0 & _LOW).astype(np.uint32)
            k0 = k0 + _WEYL[0]
            k1 = k1 + _WEYL[1]
    return c0, c1, c2, c3


def _compiled(arrays: Sequence[Words]) -> tuple[Words, Words, Words, Words]:
    """The same words by a compiled loop, which another thread's Python need not wait for."""
    from .philox_loop import fill_words  # what draws a few numbers does without a compiler

    c0, c1, c2, c3, k0, k1 = (np.ascontiguousarray(word).reshape(-1) for word in arrays)
    found = np.empty((4, len(c0)), np.uint32)
    fill_words((c0, c1, c2, c3), (k0, k1), (found[0], found[1], found[2], found[3]))
    shape = arrays[0].shape
    return found[0].reshape(shape), found[1].reshape(shape), found[2].reshape(shape), found[3].reshape(shape)


def split(number: npt.ArrayLike) -> tuple[Words, Words]:
    """Low and high 32 bits of uint64 numbers."""
    whole = np.asarray(number, dtype=np.uint64)
    return (whole & _LOW).astype(np.uint32), (whole >> _HALF).astype(np.uint32)


def join(low: Words, high: Words) -> npt.NDArray[np.uint64]:
    """The uint64 numbers of those halves."""
    return low.astype(np.uint64) | (high.astype(np.uint64) << _HALF)


def unit(words: Words) -> npt.NDArray[np.float64]:
    """Words as float64 in [0, 1): exactly word / 2^32."""
    return words.astype(np.float64) * 2.0**-32
