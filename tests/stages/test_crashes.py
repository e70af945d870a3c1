"""Killed at any moment: what is there is right, and another run ends as if nothing had happened."""

import pytest
from trials import crashes
from trials.tiny import STAGES, differences, files, make_tiny, temporaries, unlisted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(trial):
    return make_tiny(trial)


def point(tiny, stage, operation, name, *, half=False):
    """The last write point of that kind."""
    points = [item for item in crashes.points_of(tiny, stage) if item.call.target.endswith(name)]
    return next(p for p in reversed(points) if (p.call.operation, p.kill.half) == (operation, half))


def test_a_run_that_is_killed_at_a_write_point_or_any_time_ends_equal(trial):
    row = crashes.measure(10, folder=trial)
    assert row.of == 11
    assert row.ok, row.notes


def test_every_object_of_every_stage_has_its_write_points(tiny):
    """Those that are killed at are of all that a run leaves."""
    written = {"replace": set(), "half": set()}
    for stage in STAGES:
        for item in crashes.points_of(tiny, stage):
            name = item.call.target.partition("/run/")[2]
            if item.call.operation == "replace":
                written["replace"].add(name)
            if item.kill.half:
                written["half"].add(name)
    left = {name for name, data in files(tiny.before("end")).items() if data}
    assert left <= written["replace"]
    assert left <= written["half"]


@pytest.mark.parametrize(
    ("stage", "operation", "name"), [("student", "replace", "checkpoint.pt"), ("report", "replace", "report.html")]
)
def test_verify_is_content_with_what_a_kill_left_unfinished(tiny, stage, operation, name):
    at = point(tiny, stage, operation, name)
    tiny.reset(stage)
    assert tiny.do(tiny.command(stage), plan=at.kill) == -9
    assert unlisted(tiny.run)
    assert tiny.do(tiny.command("verify")) == 0, tiny.log()


def test_verify_is_content_when_the_second_report_was_killed(tiny):
    """The first one's record says nothing of the page that is there now."""
    at = point(tiny, "report", "replace", "report.html")
    tiny.reset("end")
    (tiny.run / "students/student/ledger/student.json").unlink()
    for plan, status in ((at.kill, -9), (None, 0)):
        assert tiny.do(tiny.command("report"), plan=plan) == status, tiny.log()
        assert tiny.do(tiny.command("verify")) == 0, tiny.log()


def test_gc_alone_removes_what_a_kill_left(tiny):
    for stage, name in (("report", "report.html"), ("teacher", "digests/c/0/0/0"), ("student", "checkpoint.pt")):
        at = point(tiny, stage, "write", name, half=True)
        tiny.reset(stage)
        assert tiny.do(tiny.command(stage), plan=at.kill) == -9
        assert len(temporaries(tiny.run)) == 1
        assert tiny.do(tiny.command("gc")) == 0, tiny.log()
        assert not temporaries(tiny.run)
        kept = {"students/student/checkpoint.pt", "students/student/metrics.jsonl"} if stage == "student" else set()
        assert set(unlisted(tiny.run)) <= kept


def test_a_finished_run_has_no_rubbish_and_gc_takes_nothing(tiny):
    tiny.reset("end")
    assert tiny.do(tiny.command("gc")) == 0
    assert not differences(tiny.before("end"), tiny.run)
    assert tiny.log() == ""
