"""Array jobs as processes: in turn, side by side, changed halfway or killed, they come to one process's bytes."""

import time

import pytest

from stillroom.stages.executors.array_index import Job
from stillroom.stages.executors.array_job import ArrayJob
from stillroom.stages.run.executor import Executor, InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.stage import Stage, Task
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.local import LocalPlace


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8])
def test_jobs_that_run_one_at_a_time_come_to_the_same_cache(array, count):
    array.begin_after(None)
    for stage in ("ingest", "seeds", "teacher", "verify"):
        # The last first: no job waits for one that is not running.
        array.in_turn(stage, reversed(range(count)), count)
        assert not array.wrong(stage), stage


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 8])
def test_jobs_side_by_side_come_to_the_same_cache(array, count):
    array.begin_after(None)
    for stage in ("ingest", "seeds", "teacher", "verify"):
        array.side_by_side(stage, count)
        assert not array.wrong(stage), stage


@pytest.mark.slow
def test_a_number_of_jobs_that_is_changed_halfway_changes_nothing(array):
    array.begin_after(None)
    for stage in ("ingest", "teacher", "verify"):
        array.in_turn(stage, [2, 0], 3)
        array.in_turn(stage, range(8), 8)
        assert not array.wrong(stage), stage
        if stage == "ingest":
            array.in_turn("seeds", range(3), 3)


@pytest.mark.slow
def test_a_job_that_is_killed_is_run_again_and_nothing_differs(array):
    array.begin_after("seeds")
    jobs = [array.start("teacher", index, 3) for index in range(3)]
    blocks = array.tiny.run / "cache/ledger/teachers/t/blocks"
    while jobs[1].is_alive() and not any(blocks.glob("*.json")):
        time.sleep(0.005)
    jobs[1].kill()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, -9, 0]
    array.in_turn("teacher", [1], 3)
    assert array.tiny.do(array.command("gc")) == 0
    assert not array.wrong("teacher")


@pytest.mark.slow
def test_bad_work_is_told_by_the_job_that_finds_it_and_by_the_one_that_joins_all(array):
    array.begin_after("teacher")
    victim = next(path for path in sorted((array.tiny.run / "cache/teachers/t/logits/c").rglob("*")) if path.is_file())
    victim.write_bytes(victim.read_bytes()[:-1])
    statuses = []
    for again in range(2):  # whoever runs again says the same again, and takes no second look
        for index in range(3):
            job = array.start("verify", index, 3)
            job.join()
            statuses.append(job.exitcode)
            bad = victim.relative_to(array.tiny.run / "cache").as_posix() in array.said(index)
            assert bad == (job.exitcode == 1), array.said(index)
            assert again == 0 or "nothing to do" in array.said(index)
    assert statuses[2:] == [1] * 4, "the last one joins all, and all are there from then on"
    assert Ledger(LocalPlace(array.tiny.run / "cache")).get("verified") is None
    victim.write_bytes((array.reference / "teacher" / victim.relative_to(array.tiny.run)).read_bytes())
    assert array.tiny.do(array.command("verify")) == 0, "outside an array, all is looked at anew"
    assert not array.wrong("verify")


@pytest.mark.slow
def test_what_takes_all_work_at_once_is_refused_of_a_share(array):
    for command, reason in (
        (array.command("run", "--job", "0/3"), "start an array for each stage"),
        (array.command("verify", "--repair", "--job", "0/3"), "verify --repair` once"),
        (array.command("teacher", "--job", "3/3"), "must be from 0 to 2"),
    ):
        assert array.tiny.do(command) == 2
        assert reason in array.tiny.log()


class _Noted(Executor):
    """Does nothing but note what it is given."""

    def __init__(self):
        self.given = []

    def run(self, stage, config, tasks, advance, *, again=False):
        for task in tasks:
            self.given.append(task.name)
            yield task, {}

    def close(self):
        pass


@pytest.mark.parametrize("count", [1, 3, 8, 64])
def test_each_task_of_the_shared_wave_is_in_one_share_and_all_of_earlier_waves_in_each(count):
    first = [Task("pilot", 0), Task("layout", 1)]
    shared = [Task(f"block {number}", 2) for number in range(20)]
    stage = Stage("s", "units", lambda _: [*first, *shared], lambda _: lambda _: False, dict, shared=2)
    given = []
    for index in range(count):
        noted = _Noted()
        execute(stage, None, ArrayJob(Job(index, count, "test"), noted), NoProgress())
        assert noted.given[:2] == ["pilot", "layout"]
        given += noted.given[2:]
    assert sorted(given) == sorted(task.name for task in shared)


def test_later_waves_wait_for_nobody_and_are_done_by_whoever_finds_all_before_them_done():
    tasks = [*(Task(f"part {number}") for number in range(4)), Task("join", 1, 0)]
    done = []

    def run(config, task, advance):
        done.append(task.name)
        return {}

    stage = Stage("s", "units", lambda _: tasks, lambda _: lambda task: task.name in done, run)
    for index in (2, 0, 1):
        execute(stage, None, ArrayJob(Job(index, 3, "test"), InProcess()), NoProgress())
    assert done == ["part 2", "part 0", "part 3", "part 1", "join"]
