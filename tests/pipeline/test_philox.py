"""Philox4x32-10: the published answers, and the same words for one counter as for a million."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.pipeline.rng.philox import join, philox4x32, split, unit

words = st.integers(0, 2**32 - 1)
counters, keys = st.tuples(words, words, words, words), st.tuples(words, words)


def by_the_paper(counter, key):
    """Philox4x32-10 as Salmon and others (SC 2011) write it down, in Python's own integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_known_answers_of_random123(counter, key, answer):
    found = philox4x32(*(tuple(int(word, 16) for word in text.split()) for text in (counter, key)))
    assert " ".join(f"{int(word):08x}" for word in found) == answer


@given(counters, keys)
def test_it_is_the_function_of_the_paper(counter, key):
    assert tuple(int(word) for word in philox4x32(counter, key)) == by_the_paper(counter, key)


@given(st.lists(st.tuples(counters, keys), min_size=1, max_size=30))
def test_an_array_of_counters_gives_what_each_gives_alone(pairs):
    together = philox4x32(
        tuple(np.array([counter[place] for counter, _ in pairs], np.uint32) for place in range(4)),
        tuple(np.array([key[place] for _, key in pairs], np.uint32) for place in range(2)),
    )
    alone = [[int(word) for word in philox4x32(counter, key)] for counter, key in pairs]
    assert np.stack(together, axis=1).tolist() == alone


def test_counter_and_key_broadcast():
    rows, columns = np.arange(3, dtype=np.uint32)[:, None], np.arange(5, dtype=np.uint32)
    found = philox4x32((rows, 0, 7, 1), (columns, 9))
    assert all(part.shape == (3, 5) and part.dtype == np.uint32 for part in found)
    for row in range(3):
        for column in range(5):
            assert tuple(int(part[row, column]) for part in found) == by_the_paper((row, 0, 7, 1), (column, 9))


def test_what_it_is_given_is_not_changed():
    given_words = np.arange(4, dtype=np.uint32)
    philox4x32((given_words, given_words, given_words, given_words), (given_words, given_words))
    assert given_words.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("word", [-1, 2**32])
def test_a_word_that_does_not_fit_is_an_error_and_does_not_wrap(word):
    with pytest.raises(OverflowError):
        philox4x32((word, 0, 0, 0), (0, 0))


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_halves_join_to_the_whole(numbers):
    whole = np.array(numbers, np.uint64)
    low, high = split(whole)
    assert low.dtype == high.dtype == np.uint32
    assert [int(h) * 2**32 + int(w) for w, h in zip(low, high, strict=True)] == numbers
    assert np.array_equal(join(low, high), whole)


def test_units_are_exact_and_below_one():
    found = unit(np.array([0, 1, 2**31, 2**32 - 1], np.uint32))
    assert found.tolist() == [0.0, 2.0**-32, 0.5, 1.0 - 2.0**-32]


@given(st.integers(0, 2**32 - 1))
def test_many_counters_give_what_a_few_give(first):
    """Many are a compiled loop, a few are not."""
    rng = np.random.default_rng(first)
    words = [rng.integers(0, 2**32, 30, dtype=np.uint32) for _ in range(5)]
    together = philox4x32((words[0], words[1], words[2], first), (words[3], words[4]))
    apart = [
        philox4x32((*(word[part] for word in words[:3]), first), tuple(word[part] for word in words[3:]))
        for part in (slice(0, 10), slice(10, 20), slice(20, 30))
    ]
    for place in range(4):
        assert together[place].dtype == np.uint32
        assert np.array_equal(together[place], np.concatenate([part[place] for part in apart]))


def test_many_counters_broadcast():
    rows, columns = np.arange(30, dtype=np.uint32)[:, None], np.arange(50, dtype=np.uint32)
    found = philox4x32((rows, 0, 7, 1), (columns, 9))
    assert all(part.shape == (30, 50) for part in found)
    assert [int(part[29, 49]) for part in found] == list(by_the_paper((29, 0, 7, 1), (49, 9)))
