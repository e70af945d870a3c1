"""The study: a whole one on few images, gone on with after a stop; and its findings, on results that are known."""

from dataclasses import replace

import numpy as np
import pytest

from stillroom.stages.run.executor import InProcess
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.study.arms import arms_of, passes_of
from stillroom.stages.study.budget import Costs, Wishes, student_epochs, teacher_epochs, views_count
from stillroom.stages.study.results import Result, compare, findings
from stillroom.stages.study.study import PAGE, Study
from stillroom.storage.errors import ConfigError, StillroomError


def wishes_of(digits, folder, **changes):
    asked = {"minutes": 0.01, "seeds": 2, "size": 32, "student": "timm:test_resnet", "teacher": "timm:test_resnet"}
    return Wishes(str(digits), str(folder), **{**asked, **changes})


@pytest.mark.slow
def test_a_whole_study_is_stopped_gone_on_with_and_left_alone_when_it_is_done(digits, tmp_path, monkeypatch):
    wishes = wishes_of(digits, tmp_path / "study")
    write = Study._write

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        Study(wishes, InProcess(), NoProgress()).run()
    monkeypatch.setattr(Study, "_write", write)
    said = Study(wishes, InProcess(), NoProgress()).run()
    text = (tmp_path / "study" / PAGE).read_text()
    for arm in arms_of(4):
        assert any(line.split()[0] == arm.name for line in said)
        assert arm.name in text
        assert arm.says in text
    assert "of 2 asked for: the time was up" in text
    assert "Consistent against independent views" in text
    assert (tmp_path / "study" / "study-plain.toml").exists()
    touched = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(touched) == 1 + len(arms_of(4))
    assert Study(wishes, InProcess(), NoProgress()).run() == said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == touched
    with pytest.raises(ConfigError, match=r"has a study with size = 32, this one has 64"):
        Study(wishes_of(digits, tmp_path / "study", size=64), InProcess(), NoProgress())


def test_the_plan_fits_the_time(tmp_path):
    costs = Costs(view=1e-4, teacher=3e-3, student=1e-3)
    for minutes in (10, 60, 600):
        wishes = wishes_of("data", tmp_path, minutes=minutes, seeds=3)
        views, epochs = views_count(wishes, costs, 2000), teacher_epochs(wishes, costs, 2000)
        making = 2000 * (epochs * (costs.view + costs.teacher) + 4 * views * (costs.view + costs.teacher / 3))
        assert making <= 60 * minutes * 0.36
        arms = arms_of(views)
        left = 60 * minutes - making
        each = student_epochs(wishes, costs, 2000, 500, views, left)
        learning = 3 * each * 2000 * (passes_of(arms) * costs.view + len(arms) * costs.student)
        assert each >= 1
        assert learning <= left
        assert learning >= 0.5 * left or each == 1


def test_nonsense_is_refused_before_anything_is_written(digits, tmp_path):
    for changes, said in (
        ({"seeds": 0}, "a study of 0 seeds"),
        ({"minutes": 0.0}, r"a study of 0\.0 minutes"),
        ({"student": "timm:nope"}, "model 'timm:nope' cannot be built"),
        ({"data": str(tmp_path / "gone")}, "/gone is no folder"),
    ):
        with pytest.raises(StillroomError, match=said):
            Study(replace(wishes_of(digits, tmp_path / "none"), **changes), InProcess(), NoProgress())
    assert not (tmp_path / "none").exists()


def result(arm, kl, top1=None, seeds=3, spread=0.001):
    noise = spread * np.arange(seeds)[:, None]
    curve = np.atleast_1d(np.asarray(kl, np.float64))
    accuracy = np.full_like(curve, 0.5) if top1 is None else np.atleast_1d(np.asarray(top1, np.float64))
    epochs = np.arange(1, len(curve) + 1, dtype=np.float64)
    return Result(arm, epochs, {"kl": curve[None] + noise, "top1": accuracy[None] + noise}, 0)


@pytest.fixture
def arms():
    return {arm.name: arm for arm in arms_of(8)}


def test_a_difference_is_settled_where_no_seeds_cross(arms):
    one, other = result(arms["fixed"], 0.2), result(arms["consistent"], 0.1)
    assert compare(one, other, "kl").settled
    assert compare(one, other, "kl").by == pytest.approx(0.1)
    assert not compare(one, result(arms["consistent"], 0.199), "kl").settled
    alone = [result(arms[name], kl, seeds=1) for name, kl in (("fixed", 0.2), ("consistent", 0.1))]
    assert not compare(*alone, "kl").settled, "one seed settles nothing"


def test_findings_say_what_the_numbers_say(arms):
    results = {
        "consistent": result(arms["consistent"], [0.5, 0.3, 0.1], 0.80),
        "independent": result(arms["independent"], [0.5, 0.4, 0.3], 0.70),
        "fixed": result(arms["fixed"], [0.5, 0.2, 0.4]),
        "function-matching": result(arms["function-matching"], [0.5, 0.3, 0.1], 0.80),
        "views-1": result(arms["views-1"], [0.6, 0.5, 0.5]),
        "views-2": result(arms["views-2"], [0.5, 0.3, 0.2]),
        "views-4": result(arms["views-4"], [0.5, 0.3, 0.1]),
    }
    said = findings(results, 8)
    assert said[0].startswith("Consistent against independent views: +10.0 points of top-1 (every seed), -0.2 nats")
    assert (
        "Function matching against consistent: +0.0 points of top-1 (the seeds’ ranges overlap: not settled)" in said[2]
    )
    assert "epoch 2 (KL 0.201) and at 0.401 in the end: it overfits from there" in said[3]
    assert said[4].startswith("4 distinct views of each image: KL 0.101, where 8 give 0.101")
    results["fixed"] = result(arms["fixed"], [0.5, 0.3, 0.2])
    assert "it does not overfit within this study" in findings(results, 8)[3]
    for name in ("views-1", "views-2", "views-4"):
        results[name] = result(arms[name], [0.5, 0.3, 0.2])
    assert findings(results, 8)[4] == "No smaller number of distinct views was as near to the teacher as 8."


def test_units_keep_their_letters_in_a_sentence(arms):
    results = {name: result(arms[name], [0.5, 0.3, 0.1]) for name in ("consistent", "codec-coarse")}
    (said,) = (line for line in findings(results, 8) if "against the common setting" in line)
    assert said.startswith("Transform, KL · T² of ")
