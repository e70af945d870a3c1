"""Any call that writes may fail: no record then lists what is not there, and another run ends equal."""

import errno

import pytest
from trials import failing
from trials.tiny import make_tiny
from trials.watched import OPERATIONS, Fail

pytestmark = pytest.mark.slow


def test_a_run_in_which_a_call_fails_leaves_no_false_record_and_is_done_by_another(trial):
    row = failing.measure(8, folder=trial)
    assert row.of == 9
    assert row.ok, row.notes


def test_each_kind_of_call_is_made_to_fail(trial):
    failures = failing.failures_of(make_tiny(trial), "ingest")
    assert {failure.fail.operation for failure in failures} == set(OPERATIONS)


def test_a_page_that_cannot_be_written_ends_the_command_with_its_reason(trial):
    tiny = make_tiny(trial)
    assert not failing.fail(tiny, failing.Failure("report", Fail("write", 1, errno.ENOSPC)))
    tiny.reset("report")
    assert tiny.do(tiny.command("report"), plan=Fail("write", 1, errno.ENOSPC)) == 1
    assert "stillroom: No space left on device" in tiny.log()
    assert "report.html" in tiny.log()
