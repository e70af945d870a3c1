"""From a sample's key to its seed, and from seeds to draws. Nothing here depends on batch, order, worker or rank.

The last word of a counter separates what draws are for, so that no two uses ever share one.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from .philox import Words, join, philox4x32, split

SEED, VIEW, SHUFFLE, SHARDS, UNITS, PASSES, CANARIES, CHECKS, HOLDOUT, PILOT = range(10)
"""Domains, the counter's last word: seeds of samples, parameters of views, ingest's shuffle; and for a student's epoch
the order of data shards, of units in a lane, and which view comes when; then which views are kept whole, which are
verified, which samples are held out, and which views are the pilot's. Append only."""


def uid_of(key: str) -> int:
    """A sample's number: the first 8 bytes, big-endian, of SHA-256 of its key in UTF-8."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def seeds_of(uids: npt.NDArray[np.uint64], root_seed: int) -> npt.NDArray[np.uint64]:
    """Seeds of samples.

    Args:
        uids: uint64 [n].
        root_seed: number of the run, in [0, 2^64).

    Returns:
        uint64 [n].
    """
    low, high, _, _ = philox4x32((*split(uids), 0, SEED), split(root_seed))
    return join(low, high)


def draw(
    seeds: npt.NDArray[np.uint64], operation: int, view: npt.ArrayLike, number: int = 0
) -> tuple[Words, Words, Words, Words]:
    """Four random words for a view of each sample.

    Args:
        seeds: uint64 [n].
        operation: what they are for; see `recipe`.
        view: the view's number, or int [n] of one for each sample.
        number: which draw, where an operation needs more than four words.

    Returns:
        Four uint32 [n].
    """
    return philox4x32((number, operation, view, VIEW), split(seeds))


def permutation(count: int, seed: int, domain: int, first: int, second: int = 0) -> npt.NDArray[np.int64]:
    """A permutation of range(count), a pure function of the other arguments.

    Args:
        count: how many, below 2^32.
        seed: 64-bit number.
        domain: one of those above that is not for samples or views.
        first, second: what the permutation is for, each below 2^32.
    """
    key = join(*philox4x32((0, second, 0xFFFFFFFF, domain), split(seed))[:2])
    low, high, _, _ = philox4x32((np.arange(count, dtype=np.uint32), first, 0, domain), split(key))
    return np.argsort(join(low, high), kind="stable")
