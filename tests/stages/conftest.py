"""Small whole runs on scikit-learn's real digits."""

import copy
import json

import pytest
import safetensors.torch
import torch
from trials.array import Array
from trials.tiny import make_inputs

from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.ingest.demo_digits import write_digits
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named

BASE = {
    "data": {"holdout": 0.2, "samples_per_shard": 64},
    "views": {"count": 4, "views_per_block": 2, "area": [0.25, 1.0], "flip": False},
    "teacher": [{"name": "t", "model": "timm:test_resnet", "size": 32, "batch_size": 64}],
    "student": {"model": "timm:test_resnet", "size": 32, "epochs": 1, "batch_size": 16, "learning_rate": 2e-3},
}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Every eighth of the digits in class folders: 230 images."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    for number, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        if number % 8:
            path.unlink()
    return folder


@pytest.fixture(scope="session")
def teacher_weights(tmp_path_factory):
    """A teacher with random weights, whose logits differ from view to view all the same."""
    torch.manual_seed(7)
    model = build_model("timm:test_resnet", 10)
    with torch.no_grad():
        model.get_classifier().weight.mul_(20.0)
    path = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    about = {"classes": json.dumps([str(digit) for digit in range(10)])}
    path.write_bytes(safetensors.torch.save(model.state_dict(), about))
    return path


@pytest.fixture(scope="session")
def make_config(digits, teacher_weights, tmp_path_factory):
    """A config of a small run, with some tables changed."""

    def make(changes=None, folder=None):
        data = copy.deepcopy(BASE)
        data["run"] = {"dir": str(folder or tmp_path_factory.mktemp("run"))}
        data["data"]["train"] = str(digits)
        data["teacher"][0]["weights"] = str(teacher_weights)
        for table, values in (changes or {}).items():
            if isinstance(values, dict) and isinstance(data.get(table), list):
                data[table][0] |= values
            elif isinstance(values, dict):
                data[table] = {**data.get(table, {}), **values}
            else:
                data[table] = values
        return parse_config(data)

    return make


@pytest.fixture(scope="session")
def run_stages():
    """Runs stages here; the summaries by name."""

    def run(config, *names, again=False):
        return {name: execute(stage_named(name), config, InProcess(), NoProgress(), again=again) for name in names}

    return run


@pytest.fixture(scope="session")
def make_run(make_config, run_stages):
    """A run with its cache filled."""

    def make(changes=None, stages=("ingest", "seeds", "teacher")):
        config = make_config(changes)
        run_stages(config, *stages)
        return config

    return make


@pytest.fixture(scope="session")
def trial(tmp_path_factory):
    """Where the trials of faults keep their tiny run: it is made once."""
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(scope="session")
def array(tmp_path_factory):
    """A tiny run of all stages, made by one process, to be made again by other executors."""
    stages = ("ingest", "seeds", "teacher", "verify", "student", "report")
    return Array(make_inputs(tmp_path_factory.mktemp("array")), stages)
