"""Several writers of one task: what is left is one's work, whoever is killed, suspended or late."""

import pytest
from trials import writers
from trials.onetask import OneTask

from stillroom.stages.maintenance.garbage import collect


@pytest.fixture
def cache(tmp_path):
    made = OneTask(tmp_path / "cache")
    made.create()
    return made


@pytest.mark.slow
def test_four_writers_of_one_task_leave_one_valid_state_and_a_reader_sees_nothing_else(tmp_path):
    row = writers.measure(8, folder=tmp_path)
    assert row.of >= 808
    assert row.ok, row.notes


@pytest.mark.slow
def test_a_killed_writers_task_is_taken_over_at_once(cache):
    assert not writers.killed(cache)


@pytest.mark.slow
@pytest.mark.parametrize("before", range(4))
def test_a_writer_that_sleeps_while_another_does_its_task_leaves_one_writers_work(cache, before):
    assert not writers.suspended(cache, before)


@pytest.mark.slow
@pytest.mark.parametrize("before", range(3))
def test_a_late_writer_that_fails_takes_back_what_it_wrote_over(cache, before):
    assert not writers.suspended(cache, before, fails=True)


@pytest.mark.slow
def test_gc_meanwhile_takes_nothing_that_is_in_use(trial):
    assert not writers.collected_meanwhile(trial)


@pytest.mark.slow
def test_two_runs_side_by_side_do_each_task_once_and_end_equal(trial):
    assert not writers.two_runs_at_once(trial)


def test_gc_leaves_a_page_whose_record_is_still_to_come(make_config, run_stages, tmp_path, monkeypatch):
    config = make_config(folder=tmp_path / "run")

    def page(config, facts):
        config.run_place.write("report.html", b"new")
        assert {item.name: bool(item.kept) for item in collect(config)}["report.html"]
        raise KeyboardInterrupt

    monkeypatch.setattr("stillroom.stages.report.stage.page", page)
    monkeypatch.setattr("stillroom.stages.report.stage._facts", lambda config: None)
    with pytest.raises(KeyboardInterrupt):
        run_stages(config, "report")
    assert [item.name for item in collect(config)] == ["report.html"]
    assert config.run_place.size("report.html") is None
