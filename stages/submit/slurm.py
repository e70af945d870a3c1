"""Slurm: a batch script for each stage, an array of jobs; and sbatch, each stage after the one before."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stillroom.stages.executors.array_index import COUNT
from stillroom.stages.run.shutdown import EXIT_STATUS
from stillroom.storage.errors import ConfigError, StillroomError

from .stage_jobs import StageJobs

WARNING_SECONDS = 120
"""Slurm signals so long before a job's time is up; a task in hand may take a part of it."""

_SCRIPT = """\
#!/bin/bash
# `stillroom {stage}` as {jobs} jobs; written by `stillroom submit`. Edit it, and submit it yourself, as you like:
#   sbatch {script}
#   sbatch --array=3 {script}    (one job again; an index stands for a share of the tasks)
{head}
set -u
export {count}={jobs}
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{cpus}}}"
cd {cwd} || exit 1
{activate}
# USR1 comes to this shell alone, before the time is up. It is passed on, and the job goes back into the queue. TERM is
# of scancel, after which nothing is to run again, or of a preemption, after which Slurm itself requeues.
back=no
trap 'back=yes; kill -USR1 "$child" 2>/dev/null' USR1
trap 'back=no; kill -TERM "$child" 2>/dev/null' TERM
{command} &
child=$!
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do  # a signal ends `wait`, not the command
    wait "$child"
    status=$?
done
if [ "$status" -eq {stopped} ] && [ "$back" = yes ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def script(work: StageJobs, path: Path) -> str:
    """The batch script.

    Args:
        work: what it runs.
        path: where it will lie; logs go into logs/ beside it.
    """
    asked = work.asked
    at_a_time = f"%{asked.parallel}" if asked.parallel else ""
    options = [
        f"--job-name=stillroom-{work.stage}",
        f"--array=0-{work.jobs - 1}{at_a_time}",
        f"--output={_in_head(path.parent / 'logs')}/{work.stage}-%A_%a.log",
        "--open-mode=append",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={asked.cpus}",
        f"--mem={asked.memory}",
        "--requeue",
        f"--signal=B:USR1@{WARNING_SECONDS}",
        *([f"--gres=gpu:{asked.gpus}"] if asked.gpus else []),
        *(f"--{key}={value}" for key in ("time", "partition", "account") if (value := getattr(asked, key))),
    ]
    head = [f"#SBATCH {option}" for option in options] + list(asked.lines)
    return _SCRIPT.format(
        stage=work.stage,
        jobs=work.jobs,
        script=shlex.quote(str(path)),
        head="\n".join(head),
        count=COUNT,
        cpus=asked.cpus,
        cwd=shlex.quote(work.cwd),
        activate=asked.activate or "",
        command=shlex.join(work.command(sys.executable)),
        stopped=EXIT_STATUS,
    )


def _in_head(path: Path) -> str:
    """A path for an #SBATCH line, whose words Slurm parts at spaces and whose % it fills in."""
    text = str(path)
    if any(character in text for character in '"\\\n'):
        raise ConfigError(f'Slurm takes no path with ", \\ or a line break for its logs: {text}; set submit.dir')
    return f'"{text.replace("%", "%%")}"'


def largest_array() -> int | None:
    """Jobs that an array may have, as Slurm says; None where there is no Slurm to ask."""
    if shutil.which("scontrol") is None:
        return None
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _asked(["scontrol", "show", "config"]))
    return int(found[1]) if found else None


def submit(scripts: Sequence[Path]) -> list[str]:
    """Submit scripts, each to begin when all jobs of the one before have ended well.

    Returns:
        The jobs' numbers.
    """
    if shutil.which("sbatch") is None:
        raise StillroomError("there is no sbatch on this machine; submit where Slurm is, or print with --dry-run")
    numbers: list[str] = []
    for path in scripts:
        after = [f"--dependency=afterok:{numbers[-1]}"] if numbers else []
        numbers.append(_asked(["sbatch", "--parsable", *after, str(path)]).strip().partition(";")[0])
    return numbers


def _asked(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StillroomError(f"`{shlex.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
