"""Dask workers that are processes, and what befalls them: killed, fatal to each other, told to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from trials import daskhooks

from stillroom.storage.ledger.claims import claims_in
from stillroom.storage.objects.local import LocalPlace

TESTS = Path(daskhooks.__file__).parents[1]


@pytest.fixture
def start(array):
    """Starts the teacher's stage on local workers that have the hooks."""
    array.begin_after("seeds")

    def started(**variables):
        environment = os.environ | {
            "DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([daskhooks.__file__]),
            "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        command = [sys.executable, "-m", "stillroom.stages", *array.command("teacher", "--dask", "local")]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return started


def wait_for(path, run):
    until = time.monotonic() + 120
    while not path.exists() or not path.read_text().endswith("\n"):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_mid_task_changes_nothing(array, start, tmp_path):
    run = start(STILLROOM_PAUSE=str(tmp_path))
    wait_for(tmp_path / "paused", run)
    worker = psutil.Process(int((tmp_path / "paused").read_text()))
    claimed = {holder.process.pid: task for task, holder in claims_in(LocalPlace(array.tiny.run / "cache")).items()}
    assert worker.pid in claimed, "it is in mid-task"
    assert not (array.tiny.run / f"cache/ledger/{claimed[worker.pid]}.json").exists()
    worker.kill()
    said = run.communicate()
    assert run.returncode == 0, said
    assert not claims_in(LocalPlace(array.tiny.run / "cache"))
    assert array.tiny.do(array.command("gc")) == 0
    assert not array.wrong("teacher")


@pytest.mark.slow
def test_a_task_that_takes_its_workers_down_is_named(array, start):
    run = start(STILLROOM_DIE="1.0", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    _, said = run.communicate()
    assert run.returncode == 1
    assert "teachers/t/blocks/000001.000000: a worker died with it in hand, 1 times" in said
    assert "what they say is above" in said


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_finishes_the_task_in_hand_and_keeps_no_claim(array, start, tmp_path):
    run = start(STILLROOM_PAUSE=str(tmp_path))
    wait_for(tmp_path / "paused", run)
    place = LocalPlace(array.tiny.run / "cache")
    worker = psutil.Process(int((tmp_path / "paused").read_text()))
    (task,) = (task for task, holder in claims_in(place).items() if holder.process.pid == worker.pid)
    for process in (psutil.Process(run.pid), worker):  # as a batch system does: all of a job's processes
        process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    _, said = run.communicate()
    assert run.returncode == 75, said
    assert "stopped by SIGTERM" in said
    assert (array.tiny.run / f"cache/ledger/{task}.json").exists(), "it was finished"
    assert not claims_in(place)
    assert array.wrong("teacher"), "others were not begun"
    assert array.tiny.do(array.command("teacher")) == 0
    assert not array.wrong("teacher")
