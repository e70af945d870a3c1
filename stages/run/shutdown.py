"""Being asked to stop: by a scheduler that needs the node, or a person who has waited long enough.

SIGTERM, SIGUSR1 or Ctrl-C asks. The task in hand is finished if that takes no longer than the grace, and dropped
otherwise; a student saves itself at its next step. What was finished is kept, so at most one task is lost. A second
Ctrl-C drops the task in hand at once.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_SECONDS = 20.0
EXIT_STATUS = 75
"""EX_TEMPFAIL of sysexits: not done, nothing wrong, run it again."""


class Stopped(BaseException):
    """We were asked to stop, and did. Like KeyboardInterrupt, no error handler is to take it for one."""


class StopRequest:
    """Whether we were asked to stop.

    Args:
        grace: seconds that the task in hand may still take.
    """

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self.grace = grace
        self.signal: signal.Signals | None = None

    def check(self) -> None:
        """Stop here if we were asked to.

        Raises:
            Stopped: we were.
        """
        if self.signal is not None:
            raise Stopped(self.signal.name)

    def sleep(self, seconds: float) -> None:
        """Wait, but not once we were asked to stop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.check()
            time.sleep(min(0.2, seconds))

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Listen to the signals until the context ends; only the main thread can."""
        before = {number: signal.signal(number, self._asked) for number in (signal.SIGTERM, signal.SIGUSR1)}
        before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupted)
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._out_of_time)
        try:
            yield self
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.signal is None:
            self.signal = signal.Signals(number)
            signal.setitimer(signal.ITIMER_REAL, self.grace)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        said = f"stillroom: stopping after the task in hand, or in {self.grace:.0f} s; Ctrl-C again drops it now\n"
        with suppress(OSError):  # not by print, which the signal may have met in the midst of another line
            os.write(sys.stderr.fileno(), said.encode())
        self._asked(number, frame)

    def _out_of_time(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        assert self.signal is not None
        raise Stopped(self.signal.name)
