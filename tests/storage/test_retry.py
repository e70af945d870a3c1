"""Trying again: how often, how long to wait, and what ends it."""

import pytest

from stillroom.storage.objects import retry
from stillroom.storage.objects.retry import GaveUpError, Retry


@pytest.fixture
def slept(monkeypatch):
    """Waits instead of waiting."""
    found = []
    monkeypatch.setattr(retry.time, "sleep", found.append)
    return found


def failing(count, error=TimeoutError):
    """An attempt that fails so many times."""

    def attempt(failed):
        if failed < count:
            raise error(f"number {failed}")
        return failed

    return attempt


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_fails_a_few_times_succeeds_in_the_end(slept, count):
    assert Retry(attempts=4).call(failing(count), lambda error: True) == count
    assert len(slept) == count


def test_it_gives_up_and_says_how_often_it_tried_and_what_was_last(slept):
    with pytest.raises(GaveUpError, match="4 attempts in 0 s") as caught:
        Retry(attempts=4).call(failing(9), lambda error: True)
    assert str(caught.value.last) == "number 3"
    assert len(slept) == 3


def test_what_does_not_pass_is_raised_at_once(slept):
    with pytest.raises(ValueError, match="number 0"):
        Retry(attempts=4).call(failing(9, ValueError), lambda error: isinstance(error, TimeoutError))
    assert slept == []


def test_waits_are_drawn_from_ranges_that_double_up_to_a_longest(monkeypatch):
    drawn = []
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: drawn.append((low, high)) or high)
    policy = Retry(first_seconds=0.5, longest_seconds=3.0)
    assert [policy.wait(failed) for failed in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert {low for low, _ in drawn} == {0.0}
