"""A sealed ledger says what the single records said: after any kill, beside newer records, and in few requests."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from trials import simulated

from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import SEEDS_TASK, block_task
from stillroom.storage.cache.sealing import left_over, seal, unseal
from stillroom.storage.errors import DamagedObjectError, StillroomError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.ledger.record import parse_record
from stillroom.storage.ledger.sealed import PARTS, SEALED, SEALED_TASK, DamagedSealError, Sealed
from stillroom.storage.ledger.snapshot import Snapshot, name_of
from stillroom.storage.objects.local import LocalPlace

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "format-1"
TASK = "teachers/int8/blocks/000001.000000"


@pytest.fixture
def place(tmp_path):
    """A whole cache, of the oldest format, with six teachers."""
    return LocalPlace(shutil.copytree(FORMAT_1 / "cache", tmp_path / "cache"))


def said(place):
    """All that a ledger says of teachers, in each way of asking."""
    ledger = Ledger(place)
    one_by_one = {task: ledger.get(task) for task in ledger.tasks("teachers")}
    assert list(ledger.records("teachers")) == list(one_by_one.values())
    assert all(ledger.has(task) for task in one_by_one)
    return one_by_one


def expect_all_readable(place):
    expected = np.load(FORMAT_1 / "expected.npz")
    cache = Cache(place)
    for name in expected.files:
        teacher, shard, view = name.rsplit(".", 2)
        assert np.array_equal(cache.teacher(teacher).logits(int(shard), int(view)), expected[name])
    assert len(cache.teachers) == 6


def singles(place):
    return list(place.list("ledger/teachers"))


def test_a_sealed_ledger_says_what_the_records_said_and_the_cache_reads(place):
    before = said(place)
    sealed = seal(place, 7)
    assert len(sealed.parts) == -(-len(before) // 7)
    assert said(place) == before
    assert singles(place) == []
    assert Ledger(place).folders("teachers") == sorted({task.split("/")[1] for task in before})
    assert list(Ledger(place).tasks("teachers/int8/blocks")) == sorted(t for t in before if "int8/blocks/" in t)
    expect_all_readable(place)
    for name in place.list(PARTS):
        lines = place.read(name).splitlines()
        assert [json.loads(line)["task"] for line in lines] == sorted(json.loads(line)["task"] for line in lines)


def test_sealing_twice_changes_nothing(place):
    seal(place, 7)
    before = {name: place.read(name) for name in place.list()}
    seal(place, 7)
    assert {name: place.read(name) for name in place.list()} == before


def test_a_newer_record_goes_before_a_sealed_one_and_a_dropped_one_is_not_done(place):
    seal(place)
    ledger = Ledger(place)
    old = ledger.get(TASK)
    ledger.drop(TASK)
    assert ledger.get(TASK) is None
    assert not ledger.has(TASK)
    assert TASK not in list(ledger.tasks())
    assert TASK not in [record.task for record in ledger.records()]
    assert Cache(place).teacher("int8").missing(4) == [(1, 0)]
    newer = Record(TASK, old.fingerprint, old.objects, {"seconds": 7})
    ledger.put(newer)
    assert ledger.get(TASK) == newer
    assert [record for record in ledger.records() if record.task == TASK] == [newer]
    before = said(place)
    seal(place)
    assert said(place) == before
    assert before[TASK] == newer
    assert singles(place) == []


def test_a_dropped_record_stays_dropped_when_sealed_again(place):
    seal(place)
    Ledger(place).drop(TASK)
    seal(place)
    assert Ledger(place).get(TASK) is None
    assert singles(place) == []
    assert TASK not in list(Ledger(place).tasks())


class Killed(BaseException):
    """What ends a process at once."""


class DyingPlace(LocalPlace):
    """A place whose process is killed instead of changing it for the n-th time."""

    left = 10**9

    def _live(self):
        self.left -= 1
        if self.left < 0:
            raise Killed

    def write(self, name, data):
        self._live()
        super().write(name, data)

    def delete(self, name):
        self._live()
        super().delete(name)


@pytest.mark.slow
def test_a_kill_at_any_point_loses_no_record_and_the_next_one_finishes(place, tmp_path):
    """First seal, and one that takes in a newer record and a dropped one."""
    before = said(place)
    again = LocalPlace(shutil.copytree(place.root, tmp_path / "again"))
    seal(again, 7)
    ledger = Ledger(again)
    ledger.drop(TASK)
    other = ledger.get("teachers/int8/blocks/000000.000000")
    ledger.put(Record(other.task, other.fingerprint, other.objects, {"seconds": 1}))
    for start, expected in ((place, before), (again, said(again))):
        # Each step up to the removal of single records, and some of those.
        for point in (*range(14), *range(14, 200, 9)):
            finished = True
            folder = shutil.copytree(start.root, tmp_path / f"{start.root.name}-{point}")
            dying = DyingPlace(folder)
            dying.left = point
            try:
                seal(dying, 7)
            except Killed:
                finished = False
            here = LocalPlace(folder)
            assert said(here) == expected, point
            if expected is before:
                expect_all_readable(here)
            seal(here, 7)
            assert said(here) == expected, point
            assert singles(here) == []
            assert list(left_over(here, Sealed.of(here))) == []
            assert len(list(here.list(PARTS))) == len(Sealed.of(here).parts)
            shutil.rmtree(folder)
            if finished:
                break
        assert finished
        assert point > 5


def test_an_old_version_refuses_a_sealed_cache_by_name_and_a_new_one_what_it_does_not_know(place):
    seal(place)
    stored = json.loads(place.read("zarr.json"))["attributes"]["stillroom"]
    assert (stored["format"], stored["features"]) == (2, ["sealed"])
    # What a version reads that knows of format 1 alone: the seeds' record, and the metadata that it lists.
    assert parse_record(SEEDS_TASK, place.read(name_of(SEEDS_TASK))).objects["zarr.json"].matches(place, "zarr.json")
    metadata = json.loads(place.read("zarr.json"))
    metadata["attributes"]["stillroom"]["features"].append("braided")
    data = json.dumps(metadata).encode()
    place.write("zarr.json", data)
    ledger = Ledger(place)
    record = ledger.get(SEEDS_TASK)
    ledger.put(Record(SEEDS_TASK, record.fingerprint, {**record.objects, "zarr.json": ObjectDigest.of(data)}))
    with pytest.raises(StillroomError, match="the feature 'braided', which this stillroom does not know"):
        Cache(place)


def test_a_sealed_ledger_without_its_list_is_not_an_empty_one(place):
    seal(place)
    place.delete(SEALED)
    with pytest.raises(DamagedSealError, match=r"sealed\.json is missing; `stillroom verify --repair`"):
        Cache(place)


@pytest.mark.parametrize("which", ["part", "list"])
def test_damage_is_found_and_all_whole_records_are_saved(place, which):
    before = said(place)
    seal(place, 7)
    Ledger(place).drop(TASK)
    del before[TASK]
    name = sorted(place.list(PARTS))[1] if which == "part" else SEALED
    data = place.read(name)
    middle = len(data) // 2
    place.write(name, data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
    with pytest.raises(DamagedObjectError, match="verify --repair"):
        said(place)
    back = unseal(place)
    after = said(place)
    assert back == len(after) == len(before) - (which == "part")
    assert TASK not in after
    assert after.items() <= before.items()
    seal(place, 7)
    assert said(place) == after


def test_a_record_that_changed_after_it_was_listed_is_not_removed(place):
    seal(place)
    ledger = Ledger(place)
    ledger.put(Record(TASK, "0" * 32, {}, {}))
    assert list(left_over(place, ledger.sealed())) == []


def test_a_reader_that_was_open_before_reads_on(place):
    cache = Cache(place)
    teacher = cache.teacher("int8")
    seal(place)
    assert teacher.finished_views() == 4
    assert teacher.logits(1, 3).shape == (3, 4)


def test_a_snapshot_finds_what_is_sealed_after_it_was_listed(place):
    before = said(place)
    snapshot = Snapshot(place, "teachers")
    seal(place)
    assert {task: snapshot.get(task) for task in snapshot.tasks()} == before


def test_opening_takes_few_requests(tmp_path):
    plan = simulated.Plan(500, 200, per_shard=10, per_block=10, classes=10, canaries=2)
    config = simulated.simulate(tmp_path, plan)
    place = LocalPlace(Path(config.cache_place.url))
    tasks = list(Ledger(place).tasks())
    assert len(tasks) == 1000 + 2
    seal(place, 250)
    kind, requests = simulated.counting(LocalPlace)
    teacher = Cache(kind(place.root)).teacher(simulated.TEACHER)
    opened = len(requests)
    assert opened < 40, requests
    assert teacher.finished_views() == 200
    assert len(requests) - opened < 10, requests[opened:]
    assert teacher.ledger.get(block_task("t", 0, 0)) is not None
    # A block's record costs the reader nothing more.
    requests.clear()
    cache = Cache(kind(place.root))
    cache.teacher(simulated.TEACHER)
    cache._record(block_task("t", 7, 3))
    requests.clear()
    assert all(cache._record(block_task("t", shard, 3)) is not None for shard in range(50))
    assert len(requests) <= 5, requests


def test_the_list_is_a_record_that_its_objects_match(place):
    seal(place)
    record = Ledger(place).get(SEALED_TASK)
    assert all(item.matches(place, name) for name, item in record.objects.items())
