"""Status: what is done, running, failed and missing, told from the ledgers alone, and soon, however many tasks."""

import json
import os
import time
from types import SimpleNamespace

import pytest
from trials import simulated
from trials.onetask import TASK, OneTask

from stillroom.stages.maintenance.expected_records import expected
from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.maintenance.status import in_lines, status_of
from stillroom.stages.maintenance.throughput import pace
from stillroom.stages.run.executor import attempt
from stillroom.stages.run.registry import stage_named
from stillroom.stages.run.stage import Task
from stillroom.storage.cache.layout import block_task
from stillroom.storage.ledger import failures
from stillroom.storage.ledger.claims import Claims
from stillroom.storage.ledger.ledger import Ledger

SMALL = simulated.Plan(70, 40, per_shard=10, per_block=10, classes=10, canaries=2)


@pytest.fixture
def run(tmp_path):
    return simulated.simulate(tmp_path, SMALL, share=0.5)


def teacher_of(config):
    return next(stage for stage in status_of(config)["stages"] if stage["stage"] == "teacher")


@pytest.mark.parametrize("stage", ["ingest", "seeds", "teacher"])
def test_what_is_expected_is_what_the_stage_does(run, stage):
    worker = stage_named(stage)
    tasks = {worker.homes(run, task)[0].record: task.units for task in worker.tasks(run)}
    assert {name: units for part in expected(run, stage) for name, units in part.units.items()} == tasks


def test_what_is_done_is_what_the_stage_finds_done(run):
    worker = stage_named("teacher")
    check = worker.done(run)
    found = teacher_of(run)
    assert found["done"] == sum(check(task) for task in worker.tasks(run)) == 1 + 14
    assert (found["tasks"], found["missing"], found["units_done"]) == (1 + 28, 14, 1400)
    assert (found["running"], found["failed"], found["damaged"]) == ([], [], 0)
    assert found["bytes"] > 1400 * 22
    assert found["bytes_at_end"] == 2 * found["bytes"]
    assert found["slowest"][0]["seconds"] >= found["slowest"][-1]["seconds"] > 40


def test_who_is_at_a_task_since_when(run):
    task = block_task("t", 6, 3)
    with Claims().taken(run.cache_place, task):
        found = teacher_of(run)
        (line,) = [line for line in in_lines(status_of(run)) if "running teachers" in line]
    assert found["running"][0]["task"] == task
    assert f"process {os.getpid()}" in found["running"][0]["who"]
    assert time.time() - found["running"][0]["since"] < 60
    assert found["missing"] == 13
    assert f"process {os.getpid()}, since 2" in line
    assert teacher_of(run)["running"] == []


def test_a_failed_task_says_why_and_a_done_one_forgets(run, monkeypatch):
    task = block_task("t", 6, 3)
    monkeypatch.setenv(failures.LOG, "job-7.log")
    failures.leave(run.cache_place, task, ValueError("of no avail"))
    found = teacher_of(run)
    assert found["missing"] == 13
    (failed,) = found["failed"]
    assert (failed["task"], failed["error"], failed["message"]) == (task, "ValueError", "of no avail")
    assert failed["log"] == "job-7.log"
    assert any("of no avail" in line and "job-7.log" in line for line in in_lines(status_of(run)))
    simulated.add_blocks(run, SMALL, 14, 28)
    assert teacher_of(run)["failed"] == []


def test_a_damaged_note_still_says_that_the_task_failed(run):
    task = block_task("t", 6, 3)
    run.cache_place.write(failures.name_of(task), b"\x00[")
    assert teacher_of(run)["failed"][0]["message"] == "the note of its error cannot be read"


def test_a_note_is_left_by_a_failing_task_and_goes_when_it_succeeds(tmp_path):
    one = OneTask(tmp_path)
    one.create()
    stage = one.stage(3)

    def fail(config, task, advance):
        raise ValueError("no images today")

    broken = SimpleNamespace(**{**vars(stage), "run": fail})
    with pytest.raises(ValueError, match="no images today"):
        attempt(broken, None, Task(TASK), lambda units: None, Claims())
    place = Ledger(one.writer().ledger.place).place
    assert list(failures.notes_in(place)) == [TASK]
    note = failures.read(place, TASK)
    assert "no images today" in note.message
    assert "in fail" in note.trace
    one.finish(3, Claims())
    assert list(failures.notes_in(place)) == []


def test_gc_removes_the_note_of_a_task_that_is_done_and_no_other(run):
    for task in (block_task("t", 0, 0), block_task("t", 6, 3)):
        failures.leave(run.cache_place, task, ValueError("once"))
    removed = [item.name for item in collect(run) if item.name.endswith(".error")]
    assert removed == [failures.name_of(block_task("t", 0, 0))]
    assert list(failures.notes_in(run.cache_place)) == [block_task("t", 6, 3)]


def test_a_pause_is_no_part_of_the_pace():
    assert pace([(0.0, 10), (1.0, 10), (2.0, 10)]) == 10.0
    assert pace([(0.0, 10), (1.0, 10), (100_000.0, 10), (100_001.0, 10), (100_002.0, 10)]) == 10.0
    assert pace([(5.0, 10)]) is None


def test_the_pace_tells_the_time_that_is_left(run):
    for number in range(14):
        os.utime(
            run.cache_place.local(Ledger(run.cache_place).name(block_task("t", number % 7, number // 7))),
            (0, 1e9 + number * 10),
        )
    found = teacher_of(run)
    assert found["rate"] == pytest.approx(10.0)
    assert found["seconds_left"] == 140
    assert "10 views/s, 0.0 h left" in found["text"]


def test_a_run_that_has_not_begun_says_so(tmp_path):
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "1.jpg").write_bytes(b"looked at by nobody yet")
    found = status_of(simulated.config_of(tmp_path, SMALL))["stages"]
    assert [(stage["tasks"], stage["done"]) for stage in found[:3]] == [(2, 0), (None, None), (None, None)]
    assert json.dumps(found)
