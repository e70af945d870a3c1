"""A small whole run to be damaged: 230 real digits, a random teacher, four views in two blocks, one student."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.ingest.demo_digits import write_digits
from stillroom.stages.run.executor import InProcess, Summary, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named

CACHE = ("ingest", "seeds", "teacher")
ALL = (*CACHE, "verify", "student", "report")
MODEL = "timm:test_resnet"
TABLES: dict[str, Any] = {
    "data": {"holdout": 0.2, "samples_per_shard": 64},
    "views": {"count": 4, "views_per_block": 2, "area": [0.25, 1.0], "flip": False},
    "teacher": {"name": "t", "model": MODEL, "size": 32, "batch_size": 64},
    "student": {"model": MODEL, "size": 32, "epochs": 1, "batch_size": 16, "learning_rate": 2e-3},
    "render": {"backend": "dali-cpu", "threads": 1},
    "cache": {"canaries": 4, "plain": True},
    # A share of all: what a trial plants is among what is checked.
    "verify": {"share": 1.0},
}


def images(folder: Path) -> Path:
    """Every eighth of scikit-learn's digits in class folders: 230 JPEGs."""
    write_digits(folder)
    for number, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        if number % 8:
            path.unlink()
    return folder


def weights(path: Path, seed: int = 7, gain: float = 20.0) -> Path:
    """A teacher whose logits differ from view to view though it is untrained; `gain` 0: they are all zero."""
    torch.manual_seed(seed)
    model = build_model(MODEL, 10)
    with torch.no_grad():
        head = model.get_classifier()
        head.weight.mul_(gain)
        if not gain:
            head.bias.zero_()
    about = {"classes": json.dumps([str(digit) for digit in range(10)])}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors.torch.save(model.state_dict(), about))
    return path


def tables(folder: Path) -> dict[str, Any]:
    """Plain data of the run in `folder`/run, from images and weights beside it, which are made where they are not."""
    if not (folder / "images").exists():
        images(folder / "images")
    if not (folder / "teacher.safetensors").exists():
        weights(folder / "teacher.safetensors")
    found = copy.deepcopy(TABLES)
    found["run"] = {"dir": str(folder / "run")}
    found["data"]["train"] = str(folder / "images")
    found["teacher"]["weights"] = str(folder / "teacher.safetensors")
    return found


def config(folder: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """The run's config, with some keys changed."""
    data = tables(folder)
    for table, values in (changes or {}).items():
        data[table] = {**data.get(table, {}), **values}
    return parse_config(data)


def run(made: Config, *stages: str, again: bool = False) -> dict[str, Summary]:
    """Run stages here; the summaries by name."""
    return {name: execute(stage_named(name), made, InProcess(), NoProgress(), again=again) for name in stages}


def finished(
    folder: Path, stages: Sequence[str] = ALL, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Config:
    """A run with these stages done."""
    made = config(folder, changes)
    run(made, *stages)
    return made


def verify(made: Config) -> dict[str, Any]:
    """What the whole stage finds; what the command prints with --json."""
    concluded = run(made, "verify", again=True)["verify"].concluded
    assert concluded is not None
    return dict(concluded)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(folder)
    }


def content(folder: Path) -> dict[str, str]:
    """The same without what tells of time: records say how long a task took, and so do a student's figures."""
    told = ("tensorboard/", "/ledger/", "result.json", "report.html")
    found = {name: value for name, value in tree(folder).items() if not any(part in f"/{name}" for part in told)}
    for name in found:
        if name.endswith(".safetensors"):  # which writes its notes in any order
            weights = safetensors.torch.load_file(folder / name)
            sums = {key: hashlib.sha256(weights[key].numpy().tobytes()).hexdigest() for key in sorted(weights)}
            found[name] = json.dumps(sums)
    return found


class Restored:
    """Puts a folder's files back as they were, however they were harmed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._good = {path.relative_to(folder): path.read_bytes() for path in files(folder)}

    def restore(self) -> None:
        for path in files(self.folder):
            if path.relative_to(self.folder) not in self._good:
                path.unlink()
        for name, data in self._good.items():
            path = self.folder / name
            if not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
