"""What `gpu.py` compares: each way makes a number of views and says how many. All take the same photos."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import material
import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import torch
from loader import everything
from nvidia.dali import Pipeline

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.models.factory import build_model, preprocessing_of
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.pipeline.replay.batch import Batch
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.teacher.blocks import BlockMaker
from stillroom.pipeline.train.trainer import Target, Trainer, from_cache, from_labels, from_teacher
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset

VIEWS = 2
Way = Callable[[], int]


@dataclass(frozen=True)
class Setting:
    """What is measured: sizes, models, and where."""

    device: torch.device
    backend: str
    size: int
    batch: int
    teacher: str
    student: str
    precision: str
    threads: int
    rounds: int
    kernels: tuple[tuple[str, dict[str, bool]], ...]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Setting":
        kernels = (
            ("eager", {}),
            ("CUDA graph", {"graph": True}),
            ("torch.compile", {"compile": True}),
            ("torch.compile, CUDA graph", {"compile": True, "graph": True}),
        )
        return cls(
            torch.device("cuda", 0),
            "dali-gpu",
            arguments.size,
            arguments.batch,
            arguments.teacher,
            arguments.student,
            "bfloat16",
            arguments.threads,
            arguments.rounds,
            kernels,
        )

    @classmethod
    def dry(cls) -> "Setting":
        model = "timm:test_resnet"
        return cls(torch.device("cpu"), "dali-cpu", 32, 8, model, model, "float32", 1, 1, (("eager", {}),))


def prepare(images: Path, folder: Path, setting: Setting) -> Config:
    """A finished cache of a teacher with random weights over the photos, made on the device itself."""
    config = material.run_config(
        folder,
        images,
        setting.teacher,
        setting.size,
        views={"count": VIEWS, "views_per_block": VIEWS, "mixup": True},
        render={"backend": setting.backend, "threads": setting.threads},
        teacher={"batch_size": setting.batch, "precision": setting.precision},
    )
    material.run_stages(config, ["ingest", "seeds", "teacher"])
    return config


def decode_ways(config: Config, setting: Setting) -> dict[str, Way]:
    """Decoding alone, by how much of it the hardware engine is asked to do: 0 is what stillroom uses."""
    images, _ = everything(Cache(config.cache_place), Dataset(config.data_place))
    return {
        f"decode alone, hw_decoder_load {load:g}": _decode(images, setting, load)
        for load in ((0.0,) if setting.device.type == "cpu" else (0.0, 0.65, 1.0))
    }


def _decode(images: list[np.ndarray], setting: Setting, load: float) -> Way:
    batches: Iterator[list[np.ndarray]] = iter(())
    gpu = setting.device.type == "cuda"
    pipeline = Pipeline(
        batch_size=setting.batch,
        num_threads=setting.threads,
        device_id=0 if gpu else None,
        prefetch_queue_depth=2,
        exec_dynamic=True,
    )
    with pipeline:
        fed = fn.external_source(source=lambda: next(batches), dtype=types.UINT8, ndim=1, batch=True)
        device = "mixed" if gpu else "cpu"
        pipeline.set_outputs(
            fn.decoders.image(
                fed, device=device, output_type=types.RGB, hw_decoder_load=load, jpeg_fancy_upsampling=True
            )
        )
    pipeline.build()

    def run() -> int:
        nonlocal batches
        batches = iter([images[start : start + setting.batch] for start in range(0, len(images), setting.batch)])
        pipeline.reset()
        done = 0
        while True:
            try:
                done += len(pipeline.run()[0])
            except StopIteration:
                return done

    return run


def renderer_settings(config: Config, setting: Setting) -> dict[str, Any]:
    """Where and what a renderer of the run renders."""
    return {"backend": setting.backend, "threads": setting.threads, "operations": config.views.recipe.acting}


def rendering_ways(config: Config, setting: Setting) -> dict[str, Way]:
    """From encoded bytes to pixels, then to batches on the device."""
    images, views = everything(Cache(config.cache_place), Dataset(config.data_place))
    how: dict[str, Any] = {
        "backend": setting.backend,
        "threads": setting.threads,
        "operations": config.views.recipe.acting,
    }
    renderer = Renderer((setting.size,), setting.batch, **how)
    rows = [np.arange(len(images))[start : start + setting.batch] for start in range(0, len(images), setting.batch)]
    requests = [Request([images[row] for row in part], [views.take(part)]) for part in rows]

    def graph() -> int:
        return sum(rendered[0].shape[1] for rendered in renderer.stream(requests))

    def replay(teacher: str) -> Way:
        loader = _loader(config, setting, teacher)
        return lambda: sum(len(batch) for batch in loader.epoch(0))

    return {
        "DALI graph alone (the limit)": graph,
        "stillroom replay to the device, views only": replay(""),
        "stillroom replay to the device, with logits and proof": replay("t"),
    }


def teacher_ways(config: Config, setting: Setting) -> dict[str, Way]:
    """A forward pass over images that lie on the device, and blocks made from encoded bytes."""
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    index, seeds = data.index(0), cache.seeds(0)
    images = data.images(0, index)
    resident = torch.rand(setting.batch, setting.size, setting.size, 3, device=setting.device).permute(0, 3, 1, 2)
    bare: dict[str, Way] = {}
    blocks: dict[str, Way] = {}
    for name, how in setting.kernels:
        teacher = load_teacher(config.teacher[0].model_copy(update=how), data.classes)
        repeats = max(1, len(index) // setting.batch)

        def forward(teacher: Any = teacher, repeats: int = repeats) -> int:
            for _ in range(repeats):
                teacher.ask(resident)
            return repeats * setting.batch

        how: dict[str, Any] = {
            "backend": setting.backend,
            "threads": setting.threads,
            "operations": config.views.recipe.acting,
        }
        renderer = Renderer((setting.size,), 64, views=VIEWS, **how)
        maker = BlockMaker(teacher, config.views.recipe, renderer, 64)

        def block(maker: BlockMaker = maker) -> int:
            return int(maker.make(index, images, seeds, range(VIEWS), lambda *_: None).digests.size)

        bare[f"bare forward on resident images, {name}"] = forward
        blocks[f"teacher stage: decoded, rendered, mixed, digests, {name}"] = block
    return {**bare, **blocks}


def student_ways(config: Config, setting: Setting) -> dict[str, Way]:
    """Training steps, by where the batches come from."""
    cached, views = _loader(config, setting, "t"), _loader(config, setting, "")
    resident = next(cached.epoch(0))
    steps = cached.steps
    classes = Dataset(config.data_place).classes
    ways: dict[str, Way] = {}
    for name, how in (("", {}), (", compiled", {"compile": True})):
        if how and setting.device.type == "cpu":
            continue
        ways[f"preloaded batch (the limit){name}"] = _training(
            setting, from_cache(1.0), lambda: (resident for _ in range(steps)), how
        )
        ways[f"from the cache{name}"] = _training(setting, from_cache(1.0), lambda: cached.epoch(0), how)
        ways[f"labels only, rendered{name}"] = _training(setting, from_labels, lambda: views.epoch(0), how)
    online = load_teacher(config.teacher[0], classes)
    ways["teacher in the loop"] = _training(setting, from_teacher(online.ask, 1.0), lambda: views.epoch(0), {})
    return ways


def _training(setting: Setting, target: Target, batches: Callable[[], Iterable[Batch]], how: dict[str, bool]) -> Way:
    torch.manual_seed(0)
    model = build_model(setting.student, material.CLASSES)
    preprocessing = preprocessing_of(model)
    model = model.to(setting.device, memory_format=torch.channels_last)
    settings = Student(model=setting.student, size=setting.size, batch_size=setting.batch, **how)
    trainer = Trainer(model, preprocessing, settings, 10**6, target)

    def run() -> int:
        done = 0
        for batch in batches():
            trainer.train(batch)
            done += len(batch)
        return done

    return run


def _loader(config: Config, setting: Setting, teacher: str) -> ReplayLoader:
    return ReplayLoader(
        Cache(config.cache_place),
        data=Dataset(config.data_place),
        batch_size=setting.batch,
        size=setting.size,
        seed=0,
        teacher=teacher,
        views=VIEWS,
        threads=setting.threads,
        to=setting.device,
    )
