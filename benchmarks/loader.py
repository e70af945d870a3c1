"""Views per second from JPEG tars to ready tensors: the replay loader, its limit, and loaders as others have them.

    python benchmarks/loader.py [--photos FOLDER] [--size 224] [--rounds 5] [--threads 1 2]

All ways take the same photos and the same windows, interleaved; CPU milliseconds per view beside the rate. Photos are
made, 500 × 375 as ImageNet's mostly are and 512 × 384, unless a folder of JPEGs is given. A thread of ours is a worker
process of theirs. The limit is DALI decoding whole images; ours may pass it, as it decodes windows.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import material
import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import timing
import torch
from nvidia.dali import Pipeline
from PIL import Image
from torchvision.transforms.v2 import functional

from stillroom.pipeline.augment.operations.geometry.crop import Crop
from stillroom.pipeline.augment.operations.geometry.flip import Flip
from stillroom.pipeline.augment.recipe import Recipe, Views, draw_views
from stillroom.pipeline.config.config import Config
from stillroom.pipeline.render.backend import Backend
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset

BATCH = 64
SAMPLES = 800
EPOCHS = 2
LIMIT = "DALI decodes, and no more (the limit)"
TEACHER = "timm:test_resnet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, len(os.sched_getaffinity(0))}))
    parser.add_argument("--result", default="loader")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in sources(Path(folder), arguments.photos):
            times = -(-SAMPLES // len(list(source.rglob("*.jpg"))))
            images = material.copies(source, Path(folder) / f"{name} copies", times)
            config = material.run_config(Path(folder) / f"{name} run", images, TEACHER, arguments.size)
            material.run_stages(config, ["ingest", "seeds", "teacher"])
            for threads in arguments.threads:
                ways = ways_of(config, arguments.size, threads, Path(folder) / f"{name} logits")
                found = timing.interleaved(ways, arguments.rounds)
                for way, taken in found.items():
                    row = {"photos": name, "threads": threads, **taken.row(way, "views")}
                    rows.append({**row, "of_the_limit": taken.against(found[LIMIT])})
                    print(rows[-1], flush=True)
    timing.save(arguments.result, rows, size=arguments.size, batch=BATCH, rounds=arguments.rounds)


def sources(folder: Path, given: Path | None) -> Iterator[tuple[str, Path]]:
    """Folders of photos, and what they are called."""
    if given is not None:
        yield "given", given
        return
    for width, height in ((500, 375), (512, 384)):
        yield f"{width} × {height}", material.photos(folder / f"{width}", 200, width, height)


def ways_of(config: Config, size: int, threads: int, logits: Path) -> dict[str, timing.Way]:
    """What is compared: each makes all views of an epoch several times and returns how many."""
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    images, views = everything(cache, data)

    def replay(teacher: str) -> timing.Way:
        loader = ReplayLoader(
            cache, data=data, batch_size=BATCH, size=size, seed=0, teacher=teacher, views=EPOCHS, threads=threads
        )
        return lambda: sum(len(batch) for epoch in range(EPOCHS) for batch in loader.epoch(epoch))

    one_file_each(logits, len(images), len(data.classes))
    return {
        LIMIT: decode_alone(images, threads),
        "dali-cpu alone": renderer_alone(images, views, size, threads, "dali-cpu"),
        "integer-cpu alone": renderer_alone(images, views, size, threads, "integer-cpu"),
        "stillroom, views only": replay(""),
        "stillroom, with logits and proof": replay("t"),
        "Pillow + torchvision v2 in a DataLoader": usual(UsualDataset(images, views, size), threads),
        "the same with a .pt file of logits for each image": usual(UsualDataset(images, views, size, logits), threads),
    }


def decode_alone(images: list[np.ndarray], threads: int) -> timing.Way:
    queue: Iterator[list[np.ndarray]] = iter(())
    pipeline = Pipeline(batch_size=BATCH, num_threads=threads, device_id=None, prefetch_queue_depth=2)
    with pipeline:
        fed = fn.external_source(source=lambda: next(queue), dtype=types.UINT8, ndim=1, batch=True)
        pipeline.set_outputs(fn.decoders.image(fed, device="cpu", output_type=types.RGB, jpeg_fancy_upsampling=True))
    pipeline.build()

    def run() -> int:
        nonlocal queue
        queue = iter([images[start : start + BATCH] for _ in range(EPOCHS) for start in range(0, len(images), BATCH)])
        pipeline.reset()
        done = 0
        while True:
            try:
                done += len(pipeline.run()[0])
            except StopIteration:
                return done

    return run


def renderer_alone(images: list[np.ndarray], views: Views, size: int, threads: int, backend: Backend) -> timing.Way:
    renderer = Renderer((size,), BATCH, operations=[Crop(), Flip()], backend=backend, threads=threads)
    rows = [np.arange(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    requests = [Request([images[row] for row in part], [views.take(part)]) for part in rows]
    return lambda: sum(rendered[0].shape[1] for rendered in renderer.stream(requests * EPOCHS))


class UsualDataset(torch.utils.data.Dataset[tuple[torch.Tensor, ...]]):
    """Decodes by Pillow and cuts the same windows by torchvision; logits, where asked for, from a file for each."""

    def __init__(self, images: list[np.ndarray], views: Views, size: int, logits: Path | None = None) -> None:
        self.images, self.views, self.size, self.logits = images, views, size, logits

    def __len__(self) -> int:
        return len(self.images) * EPOCHS

    def __getitem__(self, place: int) -> tuple[torch.Tensor, ...]:
        row = place % len(self.images)
        with Image.open(io.BytesIO(self.images[row].tobytes())) as opened:
            pixels = functional.pil_to_tensor(opened.convert("RGB"))
        window = [int(value) for value in self.views.window[row]]
        view = functional.resized_crop(pixels, *window, [self.size, self.size], antialias=False)
        view = functional.horizontal_flip(view) if self.views.drawn["flip"][row] else view
        view = functional.to_dtype(view, torch.float32, scale=True)
        return (view,) if self.logits is None else (view, torch.load(self.logits / f"{row}.pt"))


def usual(dataset: UsualDataset, workers: int) -> timing.Way:
    loader = torch.utils.data.DataLoader(dataset, BATCH, num_workers=workers, persistent_workers=True)
    return lambda: sum(len(batch[0]) for batch in loader)


def one_file_each(folder: Path, count: int, classes: int) -> None:
    """Logits as others keep them."""
    folder.mkdir(exist_ok=True)
    for row in range(count):
        torch.save(torch.randn(classes), folder / f"{row}.pt")


def everything(cache: Cache, data: Dataset) -> tuple[list[np.ndarray], Views]:
    """All encoded images, and the parameters of view 0."""
    images: list[np.ndarray] = []
    parts: list[Views] = []
    recipe = Recipe.from_data(dict(cache.info.recipe))
    for shard in range(len(data.sizes)):
        index = data.index(shard)
        images += data.images(shard, index)
        parts.append(draw_views(recipe, cache.seeds(shard), 0, index.height, index.width))
    return images, Views({name: np.concatenate([part.drawn[name] for part in parts]) for name in parts[0].drawn})


if __name__ == "__main__":
    main()
