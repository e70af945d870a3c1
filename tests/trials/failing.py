"""The n-th open, write, fsync, close, rename, link or mkdir fails, for every n of a small run: full disk, I/O error.

The command must end as it does for any error, no record may list what is not there, and another run must finish equal.
"""

import errno
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trials.crashes import spread, wrong_after
from trials.table import Row
from trials.tiny import STAGES, Tiny, differences, make_tiny
from trials.watched import OPERATIONS, Fail, Short

_ERRORS = (errno.ENOSPC, errno.EIO)


@dataclass(frozen=True)
class Failure:
    """One call that fails.

    Attributes:
        stage: in which stage.
        fail: how.
    """

    stage: str
    fail: Fail

    def __str__(self) -> str:
        return f"{self.stage}: {self.fail.operation} {self.fail.number} fails with {errno.errorcode[self.fail.error]}"


def measure(count: int | None, seed: int = 0, folder: Path | None = None, stages: Sequence[str] = STAGES) -> Row:
    """Fail and go on.

    Args:
        count: calls, evenly spread over all; None: all.
        seed: which error the first call fails with; the next fails with the other.
        folder: to work in.
        stages: whose calls.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tiny = make_tiny(folder or Path(temporary))
        failures = spread([failure for stage in stages for failure in failures_of(tiny, stage, seed)], count)
        problems = []
        for number, failure in enumerate(failures, 1):
            problem = fail(tiny, failure)
            if problem:
                problems.append(problem)
                print(problem, file=sys.stderr, flush=True)
            if number % 50 == 0 or number == len(failures):
                print(f"{number} of {len(failures)} calls failed, {len(problems)} with problems", file=sys.stderr)
        problems += write_short(tiny)
        return Row(
            "the n-th open, write, fsync, close, rename, link, unlink, mkdir fails (ENOSPC, EIO); short writes",
            "0 records for data that is not there; another run finishes equal",
            len(failures) + 1 - len(problems),
            len(failures) + 1,
            "; ".join([f"{len(failures)} calls, 1 run in which every write is short", *problems[:5]]),
        )


def failures_of(tiny: Tiny, stage: str, seed: int = 0) -> list[Failure]:
    """Every call of a stage, failing."""
    counts = Counter(call.operation for call in tiny.calls(stage))
    return [
        Failure(stage, Fail(operation, number, _ERRORS[(number + seed) % 2]))
        for operation in OPERATIONS
        for number in range(counts[operation])
    ]


def fail(tiny: Tiny, failure: Failure) -> str:
    """Let a call fail, and go on; what is wrong then, or nothing."""
    tiny.reset(failure.stage)
    status = tiny.do(tiny.command(failure.stage), plan=failure.fail)
    said = tiny.log()
    problems = []
    # A temporary file or a claim that cannot be removed is in nobody's way: such a run may end well.
    expected = (0, 1) if failure.fail.operation == "unlink" else (1,)
    if status not in expected or "Traceback" in said or (status and "stillroom: " not in said):
        problems.append(f"ended with {status}: {said[-400:]}")
    after = (*STAGES, "end")[STAGES.index(failure.stage) + 1]
    problems += wrong_after(tiny, [failure.stage], after)
    return f"{failure}: {', '.join(problems[:4])}" if problems else ""


def write_short(tiny: Tiny) -> list[str]:
    """A run in which every write takes only a part of what it is given."""
    tiny.reset(STAGES[0])
    if tiny.do(*map(tiny.command, STAGES), plan=Short()):
        return [f"short writes: {tiny.log()[-400:]}"]
    problems = differences(tiny.before("end"), tiny.run)
    return [f"short writes: {', '.join(problems[:4])}"] if problems else []


if __name__ == "__main__":
    print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else None))
