"""Digests of many parts in one call are those of a call for each."""

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from stillroom.storage.xxh3 import xxh3_of_parts

BUFFER = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8)


def one_by_one(buffer, starts, sizes):
    parts = [buffer[start : start + size].tobytes() for start, size in zip(starts, sizes, strict=True)]
    return np.array([xxhash.xxh3_64_intdigest(part) for part in parts], np.uint64)


def of_parts(buffer, starts, sizes):
    return xxh3_of_parts(buffer, np.array(starts, np.int64), np.array(sizes, np.int64))


def test_parts_of_every_length_have_their_digest():
    """Around 240 bytes XXH3 changes its way; a block is 1,024 bytes, a stripe 64."""
    sizes = np.arange(0, 4200)
    starts = np.arange(len(sizes)) * 8
    assert np.array_equal(of_parts(BUFFER, starts, sizes), one_by_one(BUFFER, starts, sizes))


@given(st.lists(st.tuples(st.integers(0, 299_000), st.integers(0, 40_000)), min_size=1, max_size=20))
def test_parts_anywhere_have_their_digest(parts):
    """Those that begin within a word, overlap, or reach beyond the end, too."""
    starts, sizes = zip(*parts, strict=True)
    assert np.array_equal(of_parts(BUFFER, starts, sizes), one_by_one(BUFFER, starts, sizes))


@pytest.mark.parametrize("shift", range(9))
def test_a_buffer_that_begins_within_a_word_has_the_same_digests(shift):
    shifted = BUFFER[shift:]
    assert np.array_equal(
        of_parts(shifted, [0, 8, 1000], [500, 2048, 1]), one_by_one(shifted, [0, 8, 1000], [500, 2048, 1])
    )


def test_no_parts_have_no_digests():
    assert of_parts(BUFFER, [], []).shape == (0,)
    assert of_parts(BUFFER[:0], [0], [0])[0] == xxhash.xxh3_64_intdigest(b"")


@pytest.mark.parametrize("beyond", [1, 8, 100_000])
def test_a_part_that_reaches_beyond_the_end_has_the_digest_of_what_is_there(beyond):
    """An index that is damaged may say anything."""
    starts, sizes = [len(BUFFER) - 800, 0], [800 + beyond, len(BUFFER) + beyond]
    assert np.array_equal(of_parts(BUFFER, starts, sizes), one_by_one(BUFFER, starts, sizes))
