"""SIGTERM, SIGUSR1 and Ctrl-C amid each stage: out within 30 s, with its status, between two tasks; then go on."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillroom.stages.run.shutdown import EXIT_STATUS
from stillroom.stages.student.checkpoint import CHECKPOINT, load_checkpoint
from stillroom.stages.student.metrics import METRICS, read_metrics
from stillroom.storage.objects.base import temporary_of
from stillroom.storage.objects.local import LocalPlace
from trials.table import Row
from trials.tiny import Tiny, differences, false_records, make_inputs, server, unlisted

SECONDS = 30.0
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
MARKS: Mapping[str, str] = {
    "ingest": "data/ledger/ingest/[0-9]*.json",
    "seeds": "cache/zarr.json",
    "teacher": "cache/ledger/teachers/t/blocks/[0-9]*.json",
    "verify": "cache/ledger/teachers/t/evaluation.json",
    "student": "students/student/tensorboard/*",
    "report": "students/student/ledger/student.json",
}
"""What shows that a run is in a stage, or has just come to it."""


def measure(count: int | None, seed: int = 0, folder: Path | None = None, *, fresh: bool = True) -> Row:
    """Stop a run in each stage, and go on.

    Args:
        count: how many stops; None: each signal in each stage.
        seed: with which signal to begin.
        folder: to work in.
        fresh: run `python -m stillroom.stages` anew each time, as a user would; else a process forked from a warm one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tiny = prepare(folder or Path(temporary))
        stops = [(stage, SIGNALS[(n + seed + more) % 2]) for more in range(2) for n, stage in enumerate(MARKS)]
        problems, slowest = [], 0.0
        for stage, number in stops[:count]:
            wrong, seconds = stop(tiny, stage, number, fresh=fresh)
            slowest = max(slowest, seconds)
            problems += [f"{number.name} in {stage}: {', '.join(wrong)}"] if wrong else []
            print(f"{number.name} in {stage}: {seconds:.1f} s {', '.join(wrong)}", file=sys.stderr, flush=True)
        done = len(stops[:count])
        return Row(
            "SIGTERM, SIGUSR1 in the middle of each stage",
            "status 75 within 30 s, at a task boundary, at most one task lost; goes on to the same result",
            done - len(problems),
            done,
            "; ".join([f"slowest exit {slowest:.1f} s", *problems[:5]]),
        )


def prepare(folder: Path) -> Tiny:
    """A run of many short tasks, and a copy of it when nobody disturbs it."""
    tiny = make_inputs(folder)
    if not tiny.before("stopped").exists():
        # No checkpoint is due before it ends: only one made because of the signal can be there.
        tiny.configure("long", views=16, samples=2, epochs=30, eval_epochs=10, minutes=1000)
        shutil.rmtree(tiny.run, ignore_errors=True)
        assert tiny.do(_command(tiny)) == 0, tiny.log()
        shutil.copytree(tiny.run, tiny.before("stopped"))
    return tiny


def stop(tiny: Tiny, stage: str, number: signal.Signals, *, fresh: bool) -> tuple[list[str], float]:
    """Start from nothing, stop in a stage, and go on; what is wrong, and how long it took to stop in seconds."""
    shutil.rmtree(tiny.run, ignore_errors=True)
    process = Started(tiny, fresh=fresh)
    while not any(tiny.run.glob(MARKS[stage])) and process.poll() is None:
        time.sleep(0.001)
    before = records(tiny)
    started = time.monotonic()
    process.send(number)
    status = process.wait()
    seconds = time.monotonic() - started
    problems = [f"it took {seconds:.1f} s"] if seconds > SECONDS else []
    if stage == "report" and status == 0:  # the last task of all was in hand, and is done
        return problems + differences(tiny.before("stopped"), tiny.run), seconds
    if status != (130 if number == signal.SIGINT else EXIT_STATUS):
        problems.append(f"it ended with {status}: {tiny.log()[-300:]}")
    problems += false_records(tiny.run)
    # Nothing lies there but finished tasks' work, and what a student goes on from: no task was lost, not even one.
    problems += [f"{name} was left" for name in unlisted(tiny.run) if not name.endswith((CHECKPOINT, METRICS))]
    problems += [f"the record of {name} is gone" for name in before - records(tiny)]
    if stage == "student":
        problems += _student_stopped(tiny)
    if tiny.do(_command(tiny)):
        return [*problems, f"going on failed: {tiny.log()[-300:]}"], seconds
    problems += differences(tiny.before("stopped"), tiny.run)
    steps = [(line["event"], line["step"]) for line in read_metrics(LocalPlace(tiny.run / "students/student"))]
    if len(set(steps)) != len(steps):
        problems.append(f"a step is told of twice: {steps}")
    return problems, seconds


def records(tiny: Tiny) -> set[str]:
    names = {path.relative_to(tiny.run).as_posix() for path in tiny.run.rglob("ledger/**/*.json")}
    return {name for name in names if temporary_of(name) is None}


class Started:
    """A whole run on its way, in a new interpreter or a process forked from a warm one."""

    def __init__(self, tiny: Tiny, *, fresh: bool) -> None:
        self._fresh: Any = None
        self._forked: Any = None
        if fresh:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "stillroom.stages", *_command(tiny)]
            with (tiny.folder / "log").open("w") as log:
                self._fresh = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        else:
            self._forked = tiny.process([_command(tiny)])
            self._forked.start()

    def poll(self) -> int | None:
        status: int | None = self._fresh.poll() if self._fresh is not None else self._forked.exitcode
        return status

    def send(self, number: signal.Signals) -> None:
        os.kill((self._fresh or self._forked).pid, number)

    def wait(self) -> int:
        if self._fresh is not None:
            return int(self._fresh.wait(4 * SECONDS))
        self._forked.join(4 * SECONDS)
        return int(self._forked.exitcode)


def _command(tiny: Tiny) -> list[str]:
    return ["run", str(tiny.folder / "long.toml")]


def _student_stopped(tiny: Tiny) -> list[str]:
    """A student that is stopped keeps the step that it has come to."""
    student = tiny.run / "students/student"
    if not (student / CHECKPOINT).exists():
        return ["no checkpoint was left"]
    steps = server().Queue()
    reader = server().Process(target=_step_of, args=(str(student), steps))
    reader.start()
    step = steps.get()
    reader.join()
    return [] if step > 0 else [f"the checkpoint is of step {step}"]


def _step_of(student: str, steps: Any) -> None:
    state = load_checkpoint(LocalPlace(Path(student)))
    steps.put(0 if state is None else state["step"])


if __name__ == "__main__":
    print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else None))
