"""A real Slurm of one node; tests skip by name where its programs are not installed."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from trials.array import Array
from trials.tiny import make_inputs

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
ROOT = Path(__file__).parents[2]
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Slurm:
    """The scheduler.

    Args:
        variables: the environment in which its commands work.
    """

    def __init__(self, variables):
        self.variables = variables

    def __call__(self, *command):
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def facts(self, job):
        """What Slurm knows of each task of an array, by its index."""
        found = {}
        for line in self("scontrol", "--oneliner", "show", "job", job).splitlines():
            facts = dict(re.findall(r"(\w+)=(.*?)(?= \w+(?::\w+)?=|$)", line))
            if facts.get("ArrayTaskId", "").isdecimal():
                found[int(facts["ArrayTaskId"])] = facts
        return found

    def states(self, job):
        return {index: facts["JobState"] for index, facts in self.facts(job).items()}

    def wait_for(self, job, states, seconds=240):
        """Wait until the tasks of an array are in these states."""
        until = time.monotonic() + seconds
        while self.states(job) != states:
            assert time.monotonic() < until, (self.states(job), self.log(job))
            time.sleep(0.5)

    def process(self, job, index, seconds=120):
        """stillroom's process of a task of an array, once it listens to signals; it is halted there."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for process in psutil.process_iter(["cmdline"]):
                if "stillroom.stages" in (process.info["cmdline"] or []) and self._is(process, job, index):
                    process.suspend()
                    return process
            time.sleep(0.1)
        raise AssertionError((self.states(job), self.log(job)))

    def log(self, job):
        """What each task of an array printed; scontrol shows a wrong name of the log where a folder's has %."""
        logs = [path for facts in self.facts(job).values() for path in Path(facts["Command"]).parent.glob("logs/*.log")]
        tasks = {path: re.search(rf"-{job}_(\d+)\.log$", path.name) for path in logs}
        return {int(task[1]): path.read_text() for path, task in tasks.items() if task}

    @staticmethod
    def _is(process, job, index):
        try:
            found = process.environ()
        except psutil.Error:
            return False
        same = (found.get("SLURM_ARRAY_JOB_ID"), found.get("SLURM_ARRAY_TASK_ID")) == (job, str(index))
        return same and _listens(process.pid)


def _listens(pid):
    """Whether a process has a handler for SIGUSR1."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGUSR1 - 1) & 1)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(f"no Slurm to be had here: {', '.join(missing) or 'not root'}")
    folder = tmp_path_factory.mktemp("slurm")
    script = ROOT / "tests/slurm/one-node"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "STILLROOM"))}
    variables |= {"SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    started = subprocess.run([script, folder], env=variables, capture_output=True, text=True)
    try:
        assert started.returncode == 0, started.stderr
        yield Slurm(variables)
    finally:
        subprocess.run(["scancel", "--full", "--user=root"], env=variables)
        subprocess.run([script, folder, "--stop"], env=variables, check=True)


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    # With what a shell, a batch script's head and a log's name could take for something else.
    return Array(make_inputs(tmp_path_factory.mktemp("it's 100%A $HOME")))
