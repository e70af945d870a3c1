"""The Dask executor's own rules, on workers that are threads of this process: what flies, is told, is tried."""

import os
import pickle
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import distributed
import pytest

from stillroom.stages.executors.dask import cluster as daskcluster
from stillroom.stages.executors.dask import executor as dask
from stillroom.stages.executors.dask import wave, worker
from stillroom.stages.executors.dask.cluster import open_fleet
from stillroom.stages.executors.dask.executor import Dask
from stillroom.stages.executors.dask.wave import RETRIES, Wave
from stillroom.stages.run.executor import execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.shutdown import Stopped, StopRequest
from stillroom.stages.run.stage import RecordLocation, Stage, Task
from stillroom.storage.errors import ConfigError, DataError, StillroomError
from stillroom.storage.ledger.claims import Claims, claims_in
from stillroom.storage.ledger.fingerprint import digest
from stillroom.storage.ledger.ledger import Ledger, Record
from stillroom.storage.objects.local import LocalPlace

ANY = "127.0.0.1:0"


class Told(NoProgress):
    """Notes what it is told."""

    def __init__(self):
        self.units = []
        self.crews = []
        self.heard = threading.Event()

    def advance(self, units):
        self.units.append(units)
        self.heard.set()

    def crew(self, count):
        self.crews.append(count)


class Work:
    """A stage of some tasks, each done by a function of its name; and a cluster of threads to run it."""

    def __init__(self, cluster, monkeypatch, place):
        self.cluster, self.place = cluster, place
        self.begun = []
        self.told = Told()
        self.stop = StopRequest()
        self.pinned = []
        monkeypatch.setattr(worker, "stage_named", lambda _: self.stage)
        monkeypatch.setattr(worker, "pin_threads", self.pinned.append)
        monkeypatch.setattr(wave, "_LATER_SECONDS", 0.05)
        monkeypatch.setattr(worker, "_TELL_SECONDS", 0.0)

    def run(self, body, names, *, units=10, claimed=False, resumable=False):
        def one(config, task, advance):
            self.begun.append(task.name)
            body(task.name, advance)
            if claimed:
                Ledger(self.place).put(Record(task.name, digest(b""), {}, {}))
            return {}

        tasks = [Task(name, 0, units) for name in names]
        homes = (lambda _, task: [RecordLocation(self.place, task.name, task.name)]) if claimed else None
        ledger = Ledger(self.place)
        self.stage = Stage(
            "s", "units", lambda _: tasks, lambda _: lambda task: ledger.has(task.name), one,
            homes=homes, resumable=resumable,
        )  # fmt: skip
        executor = Dask(self.cluster.scheduler_address, None, self.stop, self.told.crew)
        try:
            return execute(self.stage, None, executor, self.told)
        finally:
            executor.close()


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=4,
        processes=False,
        host="127.0.0.1",
        protocol="tcp",
        dashboard_address=ANY,
    ) as found:
        yield found


@pytest.fixture
def work(cluster, monkeypatch, tmp_path):
    return Work(cluster, monkeypatch, LocalPlace(tmp_path))


def names(count):
    return [f"task {number}" for number in range(count)]


@pytest.mark.slow
def test_no_more_tasks_fly_than_there_are_workers_and_none_carries_the_config(work, monkeypatch):
    flying, most, sizes, submit = set(), [], [], distributed.Client.submit

    def counted(self, function, *arguments, **options):
        future = submit(self, function, *arguments, **options)
        flying.add(future.key)
        most.append(len(flying))
        sizes.append(len(pickle.dumps(arguments)))
        future.add_done_callback(lambda ended: flying.discard(ended.key))
        return future

    monkeypatch.setattr(distributed.Client, "submit", counted)
    assert work.run(lambda name, advance: None, names(200)).ran == 200
    assert sorted(work.begun) == sorted(names(200)), "each once"
    assert max(most) == 2, "workers, not their threads"
    assert max(sizes) < 500, "bytes"
    assert work.told.crews[-1] == 2


def test_a_process_does_one_task_at_a_time_on_as_many_threads_as_it_was_started_with(work):
    at_it, most = [], []

    def body(name, advance):
        at_it.append(name)
        most.append(len(at_it))
        threading.Event().wait(0.02)
        at_it.remove(name)

    work.run(body, names(20))
    assert max(most) == 1, "both workers are of this process"
    assert set(work.pinned) == {4}


def test_units_are_told_while_a_task_is_in_hand_and_add_up_where_it_begins_anew(work):
    def body(name, advance):
        advance(3)
        advance(4)  # the first one is told by now
        if not work.told.heard.wait(60):
            raise DataError("nothing was told")
        if work.begun.count(name) == 1:
            raise OSError(5, "a disk")
        advance(3)

    summary = work.run(body, names(3))
    assert summary.units == sum(work.told.units) == 30
    assert min(work.told.units) < 0, "what a failed attempt had told was taken back"


def test_an_error_of_the_system_is_tried_again_but_not_for_ever(work, capfd):
    def once(name, advance):
        if work.begun.count(name) == 1:
            raise OSError(5, "a disk")

    assert work.run(once, names(4)).ran == 4
    assert capfd.readouterr().err.count("is tried again") == 4
    work.begun.clear()

    def always(name, advance):
        raise OSError(5, "a disk")

    with pytest.raises(OSError, match="a disk"):
        work.run(always, ["a"])
    assert work.begun == ["a"] * (1 + RETRIES)


def test_an_error_of_ours_ends_the_stage_at_once(work):
    def body(name, advance):
        if name == "task 3":
            raise DataError("wrong image")

    with pytest.raises(DataError, match="wrong image"):
        work.run(body, names(500), claimed=True)
    assert work.begun.count("task 3") == 1
    assert len(work.begun) < 100
    assert not claims_in(work.place)


def test_a_task_that_another_writer_has_keeps_no_worker_from_the_others(work):
    claims = Claims()
    held = claims.take(work.place, "task 0")

    def body(name, advance):
        if name == "task 9":  # the last of the others
            held.release()

    assert work.run(body, names(10), claimed=True).ran == 10
    assert work.begun[-1] == "task 0"
    assert not claims_in(work.place)


def test_what_another_writer_has_done_meanwhile_is_counted_as_done(work):
    claims = Claims()
    held = claims.take(work.place, "task 0")

    def body(name, advance):
        if name == "task 3":
            Ledger(work.place).put(Record("task 0", digest(b""), {}, {}))
            held.release()

    summary = work.run(body, names(4), claimed=True)
    assert (summary.ran, summary.skipped) == (3, 1)
    assert sum(work.told.units) == 40


def wait_until(true):
    """Wait in a task; it fails where that takes too long."""
    for _ in range(600):
        if true():
            return
        threading.Event().wait(0.1)
    raise DataError("it did not come")


def halting():
    return any(getattr(plugin, "halting", False) for plugin in distributed.get_worker().plugins.values())


def test_a_stop_lets_the_task_in_hand_be_finished_and_begins_no_other(work):
    def body(name, advance):
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(halting)
        advance(1)

    with StopRequest(grace=60).listening() as work.stop, pytest.raises(Stopped, match="SIGTERM"):
        work.run(body, names(50), claimed=True)
    assert len(work.begun) == 1
    assert list(Ledger(work.place).tasks()) == work.begun
    assert not claims_in(work.place)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_task_is_let_go_with_its_claim_at_once_if_it_is_resumable_and_else_after_the_grace(work, resumable):
    let_go = []

    def body(name, advance):
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            wait_until(lambda: advance(0))
        except Stopped:
            let_go.append(name)
            raise

    grace = 60 if resumable else 0.5
    with StopRequest(grace=grace).listening() as work.stop, pytest.raises(Stopped, match="SIGTERM"):
        work.run(body, names(50), claimed=True, resumable=resumable)
    assert let_go == work.begun
    assert len(let_go) == 1
    assert not list(Ledger(work.place).tasks())
    assert not claims_in(work.place)


def test_a_worker_whose_time_is_up_ends_between_two_tasks(monkeypatch, tmp_path):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=ANY
    ) as cluster:
        work = Work(cluster, monkeypatch, LocalPlace(tmp_path))
        opened = dask.open_fleet
        monkeypatch.setattr(dask, "open_fleet", lambda *what: replace(opened(*what), lifetime=3600))
        first = set(cluster.scheduler_info["workers"])
        by, began = [], time.monotonic()

        def body(name, advance):
            by.append(distributed.get_worker().address)
            if name == "task 2":  # it takes an hour, says the clock
                monkeypatch.setattr(worker.time, "monotonic", lambda: began + 3000)
                cluster.scale(2)

        monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=time.monotonic, sleep=time.sleep))
        assert work.run(body, names(6)).ran == 6
        assert sorted(work.begun) == names(6), "none was left in hand"
        assert set(by[:3]) == first
        assert not set(by[3:]) & first


@pytest.mark.slow
def test_where_the_scheduler_goes_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(daskcluster, "_ANSWER_SECONDS", 1)
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        host="127.0.0.1",
        protocol="tcp",
        dashboard_address=ANY,
    ) as cluster:
        work = Work(cluster, monkeypatch, LocalPlace(tmp_path))

        def body(name, advance):
            threading.Thread(target=cluster.close, daemon=True).start()
            threading.Event().wait(1)

        with pytest.raises(StillroomError, match="scheduler"):
            work.run(body, names(3))


@pytest.mark.parametrize("error", [OSError, TimeoutError, ValueError, RuntimeError("ConnectionPool is closed")])
def test_a_scheduler_that_is_gone_needs_no_good_bye(error):
    """Whatever its client says then: the error that is on its way is the one to see. It is asked all the same."""
    asked = []

    def gone(what):
        def call(*given, **_):
            asked.append((what, *given))
            raise error

        return call

    client = SimpleNamespace(unregister_worker_plugin=gone("withdraw"), close=gone("close"))
    cluster = SimpleNamespace(close=lambda **_: asked.append(("close the cluster",)))
    fleet = daskcluster.Fleet(client, cluster, 0, None, None, False, "here")
    fleet.withdraw("stillroom-s-0")
    fleet.close()
    assert asked == [("withdraw", "stillroom-s-0"), ("close",), ("close the cluster",)]


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(ConfigError, match=f"--workers is {workers}"):
        open_fleet("local", workers, None, "teacher")


def test_a_running_cluster_has_the_workers_that_it_has():
    with pytest.raises(ConfigError, match="for --dask local, cuda and slurm"):
        open_fleet("tcp://127.0.0.1:1", 3, None, "teacher")


def test_what_takes_leave_of_a_lost_scheduler_hides_no_fault_of_ours():
    def leaving(error):
        client = SimpleNamespace(cancel=Mock(side_effect=error), run=Mock())
        fleet = SimpleNamespace(client=client, workers=list, about="")
        return Wave(fleet, "token", "teacher", [], lambda _: None, StopRequest(), lambda _: None)

    for lost in (OSError("connection lost"), TimeoutError(), ValueError("closed"), RuntimeError("the loop is closed")):
        leaving(lost)._drop()
    with pytest.raises(KeyError, match="a bug"):
        leaving(KeyError("a bug"))._drop()
