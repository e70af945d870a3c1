"""`stillroom seal` on a real run: everything goes on as before, and nobody writes meanwhile."""

import pytest
from trials import tinyrun
from trials.onetask import OneTask

from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.maintenance.seal import seal_cache
from stillroom.stages.maintenance.status import status_of
from stillroom.stages.run.executor import Busy
from stillroom.stages.run.registry import stage_named
from stillroom.stages.verify.repair import repair
from stillroom.storage.cache.layout import block_task
from stillroom.storage.errors import StoreError
from stillroom.storage.ledger.claims import Claim, Claims
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.ledger.sealed import PARTS

TASK = block_task("t", 0, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("seal")


@pytest.fixture(scope="module")
def run(folder):
    """A run that was verified, and then sealed."""
    config = tinyrun.finished(folder, (*tinyrun.CACHE, "verify"))
    seal_cache(config)
    return config


@pytest.fixture(autouse=True)
def restored(run, folder):
    before = tinyrun.Restored(folder / "run")
    yield
    before.restore()


def test_all_is_done_still_and_verified_still(run):
    assert list(run.cache_place.list("ledger/teachers")) == []
    for name in (*tinyrun.CACHE, "verify"):
        stage = stage_named(name)
        check = stage.done(run)
        assert all(check(task) for task in stage.tasks(run)), name
    assert [stage["done"] == stage["tasks"] for stage in status_of(run)["stages"][:4]] == [True] * 4
    found = tinyrun.verify(run)
    assert (found["ok"], found["skipped"]) == (True, [])
    assert list(collect(run)) == []


def test_a_damaged_object_of_a_sealed_task_is_found_and_done_again(run):
    (name,) = run.cache_place.list("teachers/t/logits/c/0/1")
    good = run.cache_place.read(name)
    run.cache_place.write(name, good[:-9] + b"123456789")
    found = tinyrun.verify(run)
    assert found["redo"] == [("cache", TASK)]
    assert repair(run, found["redo"]) == [f"cache: {TASK} will be done again"]
    summary = tinyrun.run(run, "teacher")["teacher"]
    assert list(summary.results) == [TASK]
    assert run.cache_place.read(name) == good
    assert tinyrun.verify(run)["ok"]
    seal_cache(run)
    assert list(run.cache_place.list("ledger/teachers")) == []
    assert tinyrun.verify(run)["ok"]


def test_a_damaged_part_is_found_repaired_and_costs_one_task(run):
    (name,) = run.cache_place.list(PARTS)
    lines = run.cache_place.read(name).splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if TASK.encode() in line)
    lines[at] = lines[at].replace(b'"facts"', b'"fakts"')
    run.cache_place.write(name, b"".join(lines))
    found = tinyrun.verify(run)
    assert not found["ok"]
    assert found["redo"] == [("cache", "sealed")]
    repair(run, found["redo"])
    assert list(tinyrun.run(run, "teacher")["teacher"].results) == [TASK]
    assert tinyrun.verify(run)["ok"]


@pytest.mark.slow
def test_more_views_are_added_beside(run, folder):
    more = tinyrun.config(folder, {"views": {**tinyrun.TABLES["views"], "count": 6}})
    tinyrun.run(more, "teacher")
    assert len(list(more.cache_place.list("ledger/teachers"))) == 1 + 3
    assert tinyrun.verify(more)["ok"]
    seal_cache(more)
    assert list(more.cache_place.list("ledger/teachers")) == []
    assert tinyrun.verify(more)["ok"]


def test_seeds_that_are_written_again_are_those_of_a_sealed_cache(run):
    Ledger(run.cache_place).drop("seeds")
    before = run.cache_place.read("zarr.json")
    tinyrun.run(run, "seeds")
    assert b'"sealed"' in before
    assert b'"sealed"' in run.cache_place.read("zarr.json")
    assert tinyrun.verify(run)["ok"]


def test_it_is_refused_while_somebody_writes(run):
    with Claims().taken(run.cache_place, TASK), pytest.raises(StoreError, match=f"is being written: {TASK} by"):
        seal_cache(run)
    with Claims().taken(run.cache_place, "sealed"), pytest.raises(StoreError, match="is being sealed by"):
        seal_cache(run)
    seal_cache(run)


def test_writers_wait_while_it_is_sealed(tmp_path):
    one = OneTask(tmp_path)
    one.create()
    place = one.writer().ledger.place
    claims = Claims()
    with claims.taken(place, "sealed") as sealing:
        assert isinstance(sealing, Claim)
        assert isinstance(one.attempt(3, Claims()), Busy)
        assert [name for name in place.list("ledger") if name.endswith(".claim")] == ["ledger/sealed.claim"]
    assert one.finish(3, Claims()) == {"value": 3}


def test_gc_removes_what_a_killed_seal_left(run):
    task = block_task("t", 0, 0)
    record = Ledger(run.cache_place).get(task)
    Ledger(run.cache_place).put(record)
    run.cache_place.write(f"{PARTS}/000009-0123456789abcdef.jsonl", b"of a killed seal\n")
    removed = {item.name for item in collect(run) if not item.kept}
    assert removed == {f"ledger/{task}.json", f"{PARTS}/000009-0123456789abcdef.jsonl"}
    assert Ledger(run.cache_place).get(task) == record
