"""What a weights file says of mean and std is taken where it is that, and passed over where another tool wrote it."""

import json

import pytest

from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.models.factory import build_model, preprocessing_of
from stillroom.pipeline.models.weights.load import Weights
from stillroom.storage.errors import ConfigError, ModelError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def model():
    built = build_model("timm:test_resnet", 3)
    built.pretrained_cfg = {}
    return built


def weights(**metadata):
    return Weights({}, "", metadata, "w.safetensors")


def test_what_the_file_says_goes_before_what_the_model_says(model):
    found = preprocessing_of(model, weights(mean="[0.1, 0.2, 0.3]", std="[1, 0.5, 0.25]"))
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))


@pytest.mark.parametrize(
    "text",
    ['["a", "b", "c"]', "[null, 1, 2]", "[NaN, 1, 2]", "[1, 2]", "[true, true, true]", '{"0": 1}', "no JSON", "3"],
)
def test_what_another_tool_wrote_under_that_name_is_passed_over(model, text):
    found = preprocessing_of(model, weights(mean=text, std=text))
    assert (found.mean, found.std) == IMAGENET


@pytest.mark.parametrize("std", [[0, 0, 0], [1, 1, -1]])
def test_pixels_are_not_divided_by_zero_or_less(model, run_tables, tmp_path, std):
    with pytest.raises(ModelError, match=r"w.safetensors says std = \[.*above 0"):
        preprocessing_of(model, weights(std=json.dumps(std)))
    with pytest.raises(ConfigError, match=r"teacher.0.std"):
        parse_config(run_tables(tmp_path, teacher={"std": std}))
