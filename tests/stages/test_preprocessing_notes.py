"""Where a recipe prepares images otherwise than a teacher's library does, people are told; by name and value."""

import pytest
import safetensors.torch
import torch

from stillroom.pipeline.models.own_preprocessing import own_preprocessing
from stillroom.stages.teacher.preprocessing_notes import notes
from stillroom.stages.teacher.stage import on_evaluation_set


@pytest.mark.parametrize(
    ("model", "resize", "crop"),
    [
        ("timm:resnet50", "bicubic-antialias", 0.95),
        ("timm:vit_base_patch16_224", "bicubic-antialias", 0.9),
        ("torchvision:resnet50", "bilinear-antialias", 224 / 232),
        ("torchvision:resnet50?weights=IMAGENET1K_V1", "bilinear-antialias", 224 / 256),
        ("torchvision:mobilenet_v3_small", "bilinear-antialias", 0.875),
    ],
)
def test_libraries_state_how_a_model_is_evaluated(model, resize, crop):
    found = own_preprocessing(model)
    assert (found.resize, found.crop) == (resize, pytest.approx(crop))


@pytest.mark.parametrize(
    "model",
    [
        "timm:no_such_model",
        "torchvision:no_such_model",
        "mine:tiny",
        "python:own",
        "torchvision:resnet50?weights=NONE",
    ],
)
def test_what_nobody_states_is_not_made_up(model):
    assert own_preprocessing(model) is None


def test_what_differs_is_named_with_both_values(tmp_path, run_config):
    config = run_config(tmp_path, data={"holdout": 0.25}, teacher={"model": "timm:resnet50"})
    (said,) = notes(config)
    assert "teacher 't': timm:resnet50" in said
    assert "views.resize = 'bicubic-antialias', data.eval_resize = 'bicubic-antialias', data.eval_crop = 0.95" in said
    assert said.endswith("'bilinear', 'bilinear', 0.875")
    (said,) = notes(run_config(tmp_path, teacher={"model": "timm:resnet50"}))
    assert "data.eval" not in said, "nothing is evaluated"


def test_where_nothing_differs_nothing_is_said(tmp_path, run_config):
    views, data = (
        {"resize": "bicubic-antialias"},
        {"eval_resize": "bicubic-antialias", "eval_crop": 0.95, "holdout": 0.25},
    )
    assert not notes(run_config(tmp_path, views=views, data=data, teacher={"model": "timm:resnet50"}))


def test_of_weights_that_stillroom_trained_the_library_says_nothing(tmp_path, run_config):
    path = tmp_path / "own.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"classes": '["a", "b"]'})
    assert not notes(run_config(tmp_path, teacher={"model": "timm:resnet50", "weights": str(path)}))


def test_the_filter_of_an_evaluation_is_part_of_what_its_logits_are_made_from(tmp_path, run_config, monkeypatch):
    monkeypatch.setattr("stillroom.stages.teacher.stage.Dataset", lambda _: type("D", (), {"description": _Digest}))
    plain, other = (run_config(tmp_path, data={"eval_resize": name}) for name in ("bilinear", "bicubic"))
    assert on_evaluation_set(plain, {}).keys() == {"teacher", "data", "data.eval_crop"}, "as in the first caches"
    assert on_evaluation_set(other, {})["data.eval_resize"] == "bicubic"


class _Digest:
    digest = "d"
