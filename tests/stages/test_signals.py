"""SIGTERM and SIGUSR1: out at the next task boundary, with nothing lost."""

import os
import signal
import threading
import time
from unittest.mock import Mock

import pytest
from trials import signals
from trials.onetask import TASK as ONE_TASK
from trials.onetask import OneTask

from stillroom.stages.cli.exit_status import status_of_call
from stillroom.stages.run.executor import InProcess
from stillroom.stages.run.shutdown import Stopped, StopRequest
from stillroom.stages.run.stage import Task
from stillroom.storage.ledger.claims import claims_in
from stillroom.storage.objects.local import LocalPlace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "fresh"),
    [("teacher", signal.SIGTERM, True), ("student", signal.SIGUSR1, False), ("student", signal.SIGINT, True)],
)
def test_a_run_that_is_told_to_stop_does_so_in_time_and_goes_on_to_the_same_end(trial, stage, number, fresh):
    problems, _ = signals.stop(signals.prepare(trial), stage, number, fresh=fresh)
    assert not problems


def test_a_task_that_outlasts_the_grace_is_dropped_and_its_claim_given_back(tmp_path):
    cache = OneTask(tmp_path)
    cache.create()

    def endless(name):
        os.kill(os.getpid(), signal.SIGUSR1)
        threading.Event().wait(60)

    with StopRequest(grace=0.2).listening() as stop:
        executor = InProcess(stop)
        started = time.monotonic()
        with pytest.raises(Stopped, match="SIGUSR1"):
            list(executor.run(cache.stage(1, endless), None, [Task("teachers/t/blocks/000000.000000")], lambda _: None))
        assert time.monotonic() - started < signals.SECONDS
    assert not claims_in(LocalPlace(tmp_path))
    assert cache.wrong({1}) == ["there is no record"]


def test_ctrl_c_lets_the_task_in_hand_finish_and_then_stops(tmp_path, capfd):
    cache = OneTask(tmp_path)
    cache.create()

    def interrupted(name):
        if name.endswith("digests/c/0/0/0"):
            os.kill(os.getpid(), signal.SIGINT)

    with StopRequest().listening() as stop:
        tasks = [Task(ONE_TASK), Task(ONE_TASK)]
        running = InProcess(stop).run(cache.stage(1, interrupted), None, tasks, lambda _: None)
        with pytest.raises(Stopped, match="SIGINT"):
            list(running)
    assert "Ctrl-C again drops it now" in capfd.readouterr().err
    assert not claims_in(LocalPlace(tmp_path))
    assert cache.wrong({1}) == []


def test_a_second_ctrl_c_drops_the_task_in_hand_at_once(tmp_path):
    cache = OneTask(tmp_path)
    cache.create()

    def impatient(name):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")

    with StopRequest().listening() as stop, pytest.raises(KeyboardInterrupt):
        list(InProcess(stop).run(cache.stage(1, impatient), None, [Task(ONE_TASK)], lambda _: None))
    assert not claims_in(LocalPlace(tmp_path))
    assert cache.wrong({1}) == ["there is no record"]


@pytest.mark.parametrize(
    ("error", "status"), [(Stopped("SIGINT"), 130), (Stopped("SIGTERM"), 75), (KeyboardInterrupt(), 130)]
)
def test_who_asked_to_stop_is_seen_from_the_exit_status(error, status):
    assert status_of_call(Mock(side_effect=error)) == status
