"""SIGKILL at every write point of every stage, and at random moments of a run: is the result that of a calm run?

A write point is a moment between two calls that change the disk: temporary created, half written, written, synced,
closed, renamed or linked, folder synced, folder made, file removed. TensorBoard's event files are left out: they are in
no record, and each attempt leaves its own.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trials.table import Row
from trials.tiny import STAGES, Tiny, differences, false_records, make_tiny, temporaries, unlisted
from trials.watched import Call, Kill

FULL_DELAYS = 200
_KILLED = -9
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Point:
    """A moment at which to kill.

    Attributes:
        stage: which is running.
        call: after which call, or in the midst of which.
        kill: how.
    """

    stage: str
    call: Call
    kill: Kill

    def __str__(self) -> str:
        name = self.call.target.rpartition("/run/")[2]
        return f"{self.stage}: {'half ' if self.kill.half else ''}{self.call.operation} {name}"


def measure(count: int | None, seed: int = 0, folder: Path | None = None, stages: Sequence[str] = STAGES) -> Row:
    """Kill and go on.

    Args:
        count: write points, evenly spread over all; also ten times the random delays. None: all, and 200 delays.
        seed: of the delays.
        folder: to work in.
        stages: whose write points.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tiny = make_tiny(folder or Path(temporary))
        points = spread([point for stage in stages for point in points_of(tiny, stage)], count)
        problems = _each(points, lambda point: crash(tiny, point))
        delays = random_delays(tiny, FULL_DELAYS if count is None else count // 10, seed)
        problems += _each(delays, lambda delay: crash_after(tiny, delay))
        return Row(
            "SIGKILL at every write point of every stage, and after random delays; resume; gc",
            "content equal to an uninterrupted run's, 0 unlisted files, 0 temporary files",
            len(points) + len(delays) - len(problems),
            len(points) + len(delays),
            "; ".join([f"{len(points)} write points, {len(delays)} delays", *problems[:5]]),
        )


def points_of(tiny: Tiny, stage: str) -> list[Point]:
    """Every write point of a stage."""
    points = []
    before = None
    for number, call in enumerate(tiny.calls(stage)):
        if call.folder and call.operation in ("open", "close"):
            continue  # no change
        if call.operation == "write":
            points.append(Point(stage, call, Kill(number, half=True)))
        if not call.folder or call.operation == "mkdir" or before in ("replace", "link", "mkdir"):
            points.append(Point(stage, call, Kill(number)))
        before = call.operation
    return points


def crash(tiny: Tiny, point: Point) -> str:
    """Kill a stage at a point and go on; what is wrong then, or nothing."""
    tiny.reset(point.stage)
    status = tiny.do(tiny.command(point.stage), plan=point.kill)
    if status != _KILLED:
        return f"{point}: ended with {status} before it could be killed"
    after = (*STAGES, "end")[STAGES.index(point.stage) + 1]
    return _named(str(point), wrong_after(tiny, [point.stage], after))


def random_delays(tiny: Tiny, count: int, seed: int) -> list[float]:
    """Seconds into a run, as long as one takes here."""
    if not count:
        return []
    tiny.reset(STAGES[0])
    started = time.perf_counter()
    assert tiny.do(*map(tiny.command, STAGES)) == 0, tiny.log()
    length = time.perf_counter() - started
    draw = random.Random(seed)
    return [draw.uniform(0.0, length) for _ in range(count)]


def crash_after(tiny: Tiny, delay: float) -> str:
    """Kill a whole run after a delay and go on; what is wrong then, or nothing."""
    tiny.reset(STAGES[0])
    process = tiny.process(list(map(tiny.command, STAGES)))
    process.start()
    process.join(delay)
    process.kill()
    process.join()
    return _named(f"after {delay:.3f} s", wrong_after(tiny, STAGES, "end"))


def wrong_after(tiny: Tiny, stages: Sequence[str], wanted: str) -> list[str]:
    """What is wrong with a run in which a writer was killed: as it is now, and when it has gone on."""
    problems = false_records(tiny.run)
    status = tiny.do(*map(tiny.command, stages), tiny.command("gc"))
    if status:
        return [*problems, f"going on ended with {status}: {tiny.log()[-300:]}"]
    problems += differences(tiny.before(wanted), tiny.run)
    return problems + [f"{name} was left" for name in {*unlisted(tiny.run), *temporaries(tiny.run)}]


def spread(items: Sequence[_Item], count: int | None) -> list[_Item]:
    """Some of many, evenly."""
    if count is None or count >= len(items):
        return list(items)
    return [items[int((number + 0.5) * len(items) / count)] for number in range(count)]


def _each(items: Sequence[_Item], trial: Callable[[_Item], str]) -> list[str]:
    """The problems of each trial; progress goes to standard error."""
    problems = []
    for number, item in enumerate(items, 1):
        problem = trial(item)
        if problem:
            problems.append(problem)
            print(problem, file=sys.stderr, flush=True)
        if number % 50 == 0 or number == len(items):
            print(f"{number} of {len(items)} kills, {len(problems)} with problems", file=sys.stderr, flush=True)
    return problems


def _named(what: str, problems: Sequence[str]) -> str:
    return f"{what}: {', '.join(problems[:4])}" if problems else ""


if __name__ == "__main__":
    print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else None))
