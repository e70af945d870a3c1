"""Trying again: a request that failed for a reason that passes is repeated, after waits that grow and are drawn.

The one place in which requests to an object store are repeated: the clients below are told to try once. Knows nothing
of what is asked, nor of what went wrong.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class GaveUpError(Exception):
    """Every attempt failed for a reason that might have passed.

    Attributes:
        last: the last one's error.
    """

    def __init__(self, attempts: int, seconds: float, last: Exception) -> None:
        super().__init__(f"{attempts} attempt{'s' * (attempts > 1)} in {seconds:.0f} s")
        self.last = last


@dataclass(frozen=True)
class Retry:
    """How often a request is tried, and how long to wait in between.

    Before attempt n + 1 it waits for a time drawn from 0 to `first_seconds` · 2ⁿ⁻¹, but no longer than
    `longest_seconds`: writers that were turned away together do not come back together ("full jitter", Brooker,
    *Exponential Backoff and Jitter*, AWS 2015).

    Attributes:
        attempts: at most; 1 never repeats.
        first_seconds: longest wait after the first failure.
        longest_seconds: of any wait.
    """

    attempts: int = 8
    first_seconds: float = 0.25
    longest_seconds: float = 20.0

    def call(self, attempt: Callable[[int], T], passes: Callable[[Exception], bool]) -> T:
        """The result of the first attempt that succeeds.

        Args:
            attempt: makes one; told how many failed before.
            passes: whether an error may pass. Any other is raised as it is, at once.

        Raises:
            GaveUpError: all failed.
        """
        started = time.monotonic()
        for failed in range(self.attempts):
            try:
                return attempt(failed)
            except Exception as error:
                if not passes(error):
                    raise
                if failed + 1 == self.attempts:
                    raise GaveUpError(self.attempts, time.monotonic() - started, error) from error
            time.sleep(self.wait(failed))
        raise AssertionError("there is at least one attempt")

    def wait(self, failed: int) -> float:
        """Seconds to wait after a failure, when so many failed before. Waits change no result, so no seed is needed."""
        return random.uniform(0.0, min(self.longest_seconds, self.first_seconds * 2.0**failed))  # noqa: S311
