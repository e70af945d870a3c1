"""SIGTERM and SIGUSR1: out at the next task boundary, with nothing lost."""

import os
import signal
import threading
import time

import pytest
from trials import signals
from trials.onetask import OneTask

from stillroom.stages.executors import InProcess
from stillroom.stages.stage import Task
from stillroom.stages.stop import Stopped, StopRequest
from stillroom.storage.claims import claims_in
from stillroom.storage.localplace import LocalPlace


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "fresh"), [("teacher", signal.SIGTERM, True), ("student", signal.SIGUSR1, False)]
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
