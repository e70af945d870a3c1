"""`stillroom submit --slurm` on a real Slurm: chained, stopped, cancelled, killed jobs come to one process's bytes."""

import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from stillroom.storage.ledger.claims import claims_in
from stillroom.storage.objects.local import LocalPlace

SMALL = ["submit.memory=300M", "submit.cpus=1", "submit.jobs=3"]


@pytest.fixture
def submit(slurm, array):
    """Submits stages; their arrays' numbers."""

    def call(*stages, settings=SMALL):
        command = [sys.executable, "-m", "stillroom.stages", "submit", str(array.config), "--slurm"]
        command += [item for stage in stages for item in ("--stage", stage)]
        command += [item for setting in settings for item in ("--set", setting)]
        return [line.split()[1].rstrip(":") for line in slurm(*command).splitlines()]

    return call


def of(state, count=3):
    return dict.fromkeys(range(count), state)


@pytest.mark.slow
def test_chained_stages_come_to_the_bytes_of_one_process(slurm, submit, array):
    array.begin_after(None)
    numbers = submit("ingest", "seeds", "teacher", "verify")
    assert len(numbers) == 4
    # What it waits for, not why it waits: the reason is there only once the scheduler has looked at the job.
    assert f"afterok:{numbers[-2]}_*" in slurm("squeue", "--noheader", "--format=%E", "--jobs", numbers[-1])
    slurm.wait_for(numbers[-1], of("COMPLETED"))
    assert not array.wrong("verify")


@pytest.mark.slow
def test_jobs_that_were_stopped_killed_or_cancelled_run_again_and_nothing_differs(slurm, submit, array):
    array.begin_after("seeds")
    (number,) = submit("teacher", settings=[*SMALL, "submit.jobs=4"])
    # Before its time is up, a job's shell gets USR1: the command ends with 75, and the job queues again by itself.
    first = slurm.process(number, 0)
    # To the batch shell, as --signal=B: does; scancel --batch is refused while others of the array are pending.
    first.parent().send_signal(signal.SIGUSR1)
    time.sleep(1)
    first.resume()
    # The node kills another one.
    slurm.process(number, 1).send_signal(signal.SIGKILL)
    # A person cancels a third, and it stays cancelled.
    slurm.process(number, 2)
    slurm("scancel", f"{number}_2")
    slurm.wait_for(number, {0: "COMPLETED", 1: "FAILED", 2: "CANCELLED", 3: "COMPLETED"})
    facts = slurm.facts(number)
    assert facts[0]["Restarts"] == "1", slurm.log(number)
    assert "stopped by SIGUSR1" in slurm.log(number)[0]
    assert facts[1]["ExitCode"] == "137:0"
    assert facts[2]["Restarts"] == "0"
    assert array.wrong("teacher"), "two shares of four are missing"

    slurm("scontrol", "requeue", f"{number}_1")
    (script,) = (array.tiny.run / "jobs").glob("*.sbatch")
    again = slurm("sbatch", "--parsable", "--array=2", str(script)).strip()
    slurm.wait_for(again, {2: "COMPLETED"})
    slurm.wait_for(number, {0: "COMPLETED", 1: "COMPLETED", 2: "CANCELLED", 3: "COMPLETED"})
    assert array.tiny.do(array.command("gc")) == 0
    assert not array.wrong("teacher")


@pytest.mark.slow
def test_an_array_is_no_larger_than_slurm_allows(slurm, submit, array):
    array.begin_after("ingest")
    (number,) = submit("seeds", settings=[*SMALL, "submit.jobs=64", "submit.parallel=1"])
    script = (array.tiny.run / "jobs/seeds.sbatch").read_text()
    assert "--array=0-10%1\n" in script, "one-node says MaxArraySize=11"
    assert "STILLROOM_JOBS=11\n" in script
    slurm("scancel", number)


@pytest.mark.slow
def test_workers_that_are_jobs_of_slurm_come_to_the_bytes_of_one_process(slurm, array, tmp_path):
    array.begin_after("seeds")
    settings = [item for setting in (*SMALL, f"submit.dir={tmp_path}") for item in ("--set", setting)]
    command = [sys.executable, "-m", "stillroom.stages", *array.command("teacher", "--dask", "slurm", *settings)]
    network = {"DASK_JOBQUEUE__SLURM__INTERFACE": "lo"}
    run = subprocess.Popen([*command, "--workers", "2"], env=slurm.variables | network)
    place = LocalPlace(array.tiny.run / "cache")
    while not (holders := list(claims_in(place).values())):
        assert run.poll() is None
        time.sleep(0.01)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(holders[0].process.pid).kill()  # a worker with a task in hand; its job goes on
    assert run.wait(240) == 0
    assert not claims_in(place)
    assert not slurm("squeue", "--noheader", "--name=stillroom-teacher", "--states=RUNNING,PENDING"), "they are over"
    logs = [path.read_text() for path in (tmp_path / "logs").glob("stillroom-teacher-*.err")]
    assert any("tls://127.0.0.1" in log for log in logs), logs
    assert array.tiny.do(array.command("gc")) == 0
    assert not array.wrong("teacher")
