"""Recipes of many operations, whole: taught, verified, replayed, reported; and the renderer that is chosen."""

import json

import numpy as np
import pytest
import torch

from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named
from stillroom.stages.run.resources import backend_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, FingerprintError

RECIPE = {
    "preset": "paper",
    "resize": "bicubic-antialias",
    "augment": [
        {"op": "vertical_flip"},
        {"op": "randaugment", "n": 2, "magnitude": 9, "std": 0.5},
        {"op": "random_erasing", "p": 0.5, "mode": "noise"},
    ],
    "mix": [{"op": "mixup", "alpha": 0.8, "p": 0.4}, {"op": "cutmix", "alpha": 1.0, "p": 0.4}],
}
STUDENTS = [{"name": name, "model": "timm:test_resnet", "size": 32, "epochs": 2, "batch_size": 8} for name in "ab"]


def run(config, *names):
    for name in names:
        concluded = execute(stage_named(name), config, InProcess(), NoProgress()).concluded
        assert concluded is None or concluded["ok"], concluded


@pytest.fixture(scope="module", params=[{"preset": "deit"}, RECIPE], ids=["deit", "the config of many operations"])
def made(request, tmp_path_factory, run_config):
    """A run of a recipe on whatever renders by itself here, verified."""
    config = run_config(
        tmp_path_factory.mktemp("recipe"),
        views=request.param,
        render={"backend": "auto"},
        cache={"codec": "float32", "canaries": 4},
        data={"holdout": 0.25, "eval_resize": "bicubic-antialias"},
        verify={"share": 1.0},
        student=STUDENTS,
    )
    run(config, "ingest", "seeds", "teacher", "verify")
    return config


@pytest.mark.slow
def test_students_see_the_floats_that_the_teacher_saw(made):
    cache = Cache(made.cache_place)
    teacher = load_teacher(made.teacher[0], classes_of(made, Dataset(made.data_place), made.teacher[0]))
    loader = ReplayLoader(Cache(made.cache_place), data=Dataset(made.data_place), batch_size=8, size=32, seed=0)
    mixed = boxed = 0
    for batch in loader.epoch(0):
        assert batch.proved >= len(batch)
        np.testing.assert_allclose(teacher(batch.images), batch.logits, atol=1e-4)
        mixed += int((batch.shares < 1).sum())
    for view in range(made.views.count):
        mix = made.views.recipe.mixing.draw(cache.seeds(0), view)
        boxed += 0 if mix.box is None else int((mix.box != 0).any(axis=1).sum())
    assert mixed
    assert boxed


@pytest.mark.slow
def test_labels_are_weighted_by_the_pixels_of_the_students_size(made):
    batches = {}
    for size in (32, 20):
        loader = ReplayLoader(Cache(made.cache_place), data=Dataset(made.data_place), batch_size=12, size=size, seed=0)
        batches[size] = next(iter(loader.epoch(0)))
    shares = [batch.shares for batch in batches.values()]
    assert torch.allclose(*shares, atol=0.1)
    assert not torch.equal(*shares), "boxes have other pixels at another size"


@pytest.mark.slow
def test_two_students_learn_and_the_report_names_what_was_done(made):
    run(made, "student", "report")
    page = made.run_place.read("report.html").decode()
    for item in made.views.recipe.acting[1:]:
        assert f'<th scope="row">{item.op}</th>' in page
    assert "rotate" in page or "shear" in page
    assert "crop [" not in page, "windows are drawn, not spelt out"


def test_auto_takes_integers_where_it_can_and_dali_where_it_must(tmp_path, run_config):
    for views, wanted in (({}, "integer-cpu"), ({"preset": "simclr"}, "integer-cpu"), ({"hue": 0.1}, "dali-cpu")):
        assert backend_of(run_config(tmp_path / wanted, views=views, render={"backend": "auto"})) == wanted


@pytest.mark.parametrize("first", ["dali-cpu", "integer-cpu"])
def test_a_cache_goes_on_with_the_renderer_that_it_began_with(tmp_path, run_config, first):
    config = run_config(tmp_path, render={"backend": first})
    run(config, "ingest", "seeds")
    assert Cache(config.cache_place).info.views["renderer"]["backend"] == first
    auto = run_config(tmp_path, render={"backend": "auto"})
    assert backend_of(auto) == first
    run(auto, "teacher", "verify")
    other = run_config(tmp_path, render={"backend": "integer-cpu" if first == "dali-cpu" else "dali-cpu"})
    with pytest.raises(FingerprintError, match=r"renderer\.backend"):
        run(other.model_copy(update={"teacher": (other.teacher[0].model_copy(update={"name": "u"}),)}), "teacher")


def test_an_operation_of_dalis_is_refused_by_name_where_there_is_no_graph(tmp_path, run_config):
    config = run_config(tmp_path, views={"hue": 0.1}, render={"backend": "integer-cpu"})
    run(config, "ingest", "seeds")
    with pytest.raises(ConfigError, match=r"'colour' is one of DALI's.*\"integer-cpu\".*\"dali-cpu\""):
        run(config, "teacher")


def test_metadata_that_cannot_be_read_choose_no_renderer(tmp_path, run_config):
    config = run_config(tmp_path, render={"backend": "auto"})
    run(config, "ingest", "seeds")
    path = tmp_path / "cache" / "zarr.json"
    whole = json.loads(path.read_text())
    for broken in (b"{", b"[]", json.dumps({**whole, "attributes": {}}).encode()):
        path.write_bytes(broken)
        assert backend_of(config) == "integer-cpu"
