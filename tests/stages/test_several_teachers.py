"""Several teachers over the same views: each as if it were alone, and students of one, or of the mean of several."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.teacher.evaluation import EvaluationSet
from stillroom.stages.student.build import student_classes, trainer_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    torch.manual_seed(8)
    model = build_model("timm:test_efficientnet", 10)
    with torch.no_grad():
        model.get_classifier().weight.mul_(20.0)
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    about = {"classes": json.dumps([str(digit) for digit in range(10)])}
    path.write_bytes(safetensors.torch.save(model.state_dict(), about))
    return path


@pytest.fixture(scope="module")
def sections(teacher_weights, other_weights):
    """Another model, at another size."""
    return {
        "a": {"name": "a", "model": "timm:test_resnet", "size": 32, "weights": str(teacher_weights)},
        "b": {"name": "b", "model": "timm:test_efficientnet", "size": 48, "weights": str(other_weights)},
    }


FLOAT32 = {"cache": {"codec": "float32", "plain": True}, "views": {"mixup": False}}


@pytest.fixture(scope="module")
def alone(make_run, sections):
    """A cache for each."""
    return {name: make_run({**FLOAT32, "teacher": [section]}) for name, section in sections.items()}


@pytest.fixture(scope="module")
def both(make_config, make_run, run_stages, sections):
    """A cache of one teacher that another was added to; and what of it was touched then."""
    first = make_run({**FLOAT32, "teacher": [sections["a"]]})
    before = contents(first)
    config = make_config({**FLOAT32, "teacher": list(sections.values())}, folder=first.run.dir)
    run_stages(config, "ingest", "seeds", "teacher")
    return config, before


def contents(config):
    place = config.cache_place
    return {name: (place.read(name), place.local(name).stat().st_mtime_ns) for name in place.list()}


def test_adding_a_teacher_touches_nothing_of_the_first(both):
    config, before = both
    after = contents(config)
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before


def test_each_is_equal_to_its_own_cache(both, alone):
    together = Cache(both[0].cache_place)
    for name, config in alone.items():
        mine, its = together.teacher(name), Cache(config.cache_place).teacher(name)
        assert mine.info.fingerprint == its.info.fingerprint
        for shard in range(together.layout.shards):
            np.testing.assert_array_equal(mine.plain(shard), its.plain(shard))
            for view in range(4):
                np.testing.assert_array_equal(mine.logits(shard, view), its.logits(shard, view))
                np.testing.assert_array_equal(mine.digests(shard, view), its.digests(shard, view))
        np.testing.assert_array_equal(mine.evaluation(), its.evaluation())


def batch_of(config, **options):
    loader = ReplayLoader(
        Cache(config.cache_place), data=str(config.data_place), batch_size=16, size=32, seed=1, **options
    )
    return next(loader.epoch(1))


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
@pytest.mark.parametrize("design", ["consistent", "fixed"])
def test_logits_are_averaged_with_weights(both, weights, design):
    config, _ = both
    a, b = (batch_of(config, teacher=name, design=design) for name in "ab")
    mean = batch_of(config, teacher=["a", "b"], weights=weights, design=design)
    assert not torch.allclose(a.logits, b.logits)
    share = 0.5 if weights is None else 0.25
    torch.testing.assert_close(mean.logits, share * a.logits + (1 - share) * b.logits)
    assert torch.equal(mean.images, a.images)
    assert mean.proved == 16


def test_the_teacher_of_the_students_size_proves_every_view(both):
    config, _ = both
    assert batch_of(config, teacher=["b", "a"]).proved == 16


def test_a_student_of_the_mean_is_trained_and_evaluated_against_the_mean(both, make_config, run_stages, sections):
    config = make_config(
        {
            **FLOAT32,
            "teacher": list(sections.values()),
            "student": {"name": "mean", "teacher": ["a", "b"], "teacher_weights": [1.0, 3.0]},
        },
        folder=both[0].run.dir,
    )
    (facts,) = run_stages(config, "student")["student"].results.values()
    made_from = json.loads(config.student_place(config.student[0]).read("result.json"))["made_from"]
    assert set(made_from["teachers"]) == {"a", "b"}
    cache, data = Cache(config.cache_place), Dataset(config.eval_place)
    mean = torch.from_numpy(0.25 * cache.teacher("a").evaluation() + 0.75 * cache.teacher("b").evaluation())
    trainer = trainer_of(config, config.student[0], Dataset(config.data_place), 1, Ranks())
    weights = config.student_place(config.student[0]).read("weights.safetensors")
    trainer.model.load_state_dict(safetensors.torch.load(weights))
    views = EvaluationSet(data, 32, config.data.eval_crop, batch_size=16, backend="dali-cpu", threads=1)
    expected = views.accuracy(views.logits(trainer.predict), mean)
    assert facts["kl"] == pytest.approx(expected.kl, abs=1e-5)


def test_teachers_of_different_classes_are_not_averaged(make_config, sections, other_weights, tmp_path):
    """Where the images have no labels, each teacher has classes of its own; equally many here."""
    renamed = tmp_path / "renamed.safetensors"
    about = {"classes": json.dumps([f"letter {number}" for number in range(10)])}
    renamed.write_bytes(safetensors.torch.save(safetensors.torch.load_file(other_weights), about))

    def classes(weights):
        tables = {
            "data": {"labels": False, "holdout": 0.0},
            "teacher": [sections["a"], {**sections["b"], "weights": str(weights)}],
            "student": {"teacher": ["a", "b"]},
        }
        config = make_config(tables)
        return student_classes(config, config.student[0], SimpleNamespace(classes=()))

    assert classes(other_weights) == tuple(str(digit) for digit in range(10))
    with pytest.raises(DataError, match=r"teachers a, b have different classes"):
        classes(renamed)


def test_without_a_name_a_cache_of_two_is_refused(both):
    with pytest.raises(ConfigError, match=r"2 teachers \(a, b\); name the one"):
        batch_of(both[0])
    for names, weights in ((["a", "b"], [1.0]), (["a", "a"], None), (["a", "b"], [1.0, float("nan")]), ([], None)):
        with pytest.raises(ConfigError, match=r"do not fit teachers"):
            batch_of(both[0], teacher=names, weights=weights)
