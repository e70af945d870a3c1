"""What benchmarks run on: photos, given or made, and runs over them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.run.executor import InProcess, Summary, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named

CLASSES = 10


def photos(folder: Path, count: int, width: int, height: int, quality: int = 88) -> Path:
    """Class folders of JPEGs with the detail of photos: noise at every scale."""
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        total = torch.zeros(1, 3, height, width)
        for scale in (4, 16, 64, 192):
            noise = torch.rand(1, 3, max(1, scale * height // width), scale, generator=generator) - 0.5
            total += torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic") * 4 / scale**0.5
        pixels = ((total[0] * 0.25 + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0)
        path = folder / f"{number % CLASSES:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(path, quality=quality)
    return folder


def copies(source: Path, folder: Path, times: int) -> Path:
    """Class folders with each JPEG of a folder so many times, so that an epoch is long beside its beginning."""
    for number, path in enumerate(sorted(source.rglob("*.jpg"))):
        for copy in range(times):
            target = folder / f"{number % CLASSES:02d}" / f"{copy}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder


def weights(folder: Path, model: str, classes: int = CLASSES) -> Path:
    """Untrained weights of a model."""
    torch.manual_seed(0)
    path = folder / f"{model.replace(':', '-').replace('/', '-')}-{classes}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(build_model(model, classes).state_dict(), path)
    return path


def run_config(folder: Path, images: Path, model: str, size: int, **tables: dict[str, Any]) -> Config:
    """A run in `folder` over class folders of `CLASSES` classes, with a teacher "t"; `tables` change or add keys."""
    teacher = {"name": "t", "model": model, "weights": str(weights(folder / "weights", model)), "size": size}
    plain: dict[str, dict[str, Any]] = {
        "run": {"dir": str(folder)},
        "data": {"train": str(images)},
        "views": {"count": 2, "views_per_block": 2, "mixup": True},
        "teacher": teacher,
    }
    for name, keys in tables.items():
        plain[name] = {**plain.get(name, {}), **keys}
    return parse_config({**plain, "teacher": [plain["teacher"]]})


def run_stages(config: Config, stages: Sequence[str]) -> list[Summary]:
    """Do stages in this process."""
    return [execute(stage_named(name), config, InProcess(), NoProgress()) for name in stages]


def logits(classes: int, rows: int, spread: float) -> npt.NDArray[np.float32]:
    """Rows with standard deviations spread · sqrt(classes) · (1 + j / 4)^-1.2 on 300 random axes: [rows, classes]."""
    fixed = np.random.default_rng(5)
    axes = fixed.standard_normal((300, classes)).astype(np.float32) / np.float32(np.sqrt(classes))
    deviation = spread * np.sqrt(classes) * (1 + np.arange(300) / 4) ** -1.2
    rng = np.random.default_rng(1)
    scale = np.exp(0.35 * rng.standard_normal((rows, 1)))
    return ((rng.standard_normal((rows, 300)) * scale * deviation).astype(np.float32)) @ axes
