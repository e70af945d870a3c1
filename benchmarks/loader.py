"""Views per second from JPEG tars to ready tensors: the replay loader against its limit and against a usual loader.

    python benchmarks/loader.py [--photos FOLDER] [--size 224] [--rounds 5]

All ways take the same photos and the same windows, in one process each round, interleaved; medians of the rounds, and
CPU seconds per view beside wall time. Without a folder, photo-like JPEGs of 512 × 384 are made. The table and
`benchmarks/results/loader.json` state machine and versions.
"""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import torch
from nvidia.dali import Pipeline
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.v2 import functional

from stillroom.pipeline.config import Config, parse_config
from stillroom.pipeline.models import build_model
from stillroom.pipeline.recipe import Recipe, Views, draw_views
from stillroom.pipeline.render import Renderer
from stillroom.pipeline.replay import ReplayLoader
from stillroom.pipeline.request import Request
from stillroom.stages.executors import InProcess, execute
from stillroom.stages.progress import NoProgress
from stillroom.stages.registry import stage_named
from stillroom.storage.cache import Cache
from stillroom.storage.dataset import Dataset

RESULTS = Path(__file__).parent / "results" / "loader.json"
BATCH = 64
COPIES = 4
REPEATS = 2


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(arguments.photos) if arguments.photos else make_photos(Path(folder) / "photos")
        config = prepare(copy_in_classes(photos, Path(folder) / "classes"), Path(folder) / "run", arguments.size)
        ways = ways_of(config, arguments.size, arguments.threads)
        for run in ways.values():
            run()
        figures: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, run in ways.items():
                figures[name].append(timed(run))
    report(figures, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Views per second of the replay loader and of others.")
    parser.add_argument("--photos", help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def ways_of(config: Config, size: int, threads: int) -> dict[str, Callable[[], int]]:
    """What is compared: each makes all views of an epoch several times and returns how many."""
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    images, views = everything(cache, data)

    def replay(teacher: str) -> Callable[[], int]:
        loader = ReplayLoader(
            cache, data=data, batch_size=BATCH, size=size, seed=0, teacher=teacher, views=REPEATS, threads=threads
        )
        return lambda: sum(len(batch) for epoch in range(REPEATS) for batch in loader.epoch(epoch))

    return {
        "DALI, decode alone (the limit)": decode_alone(images, threads),
        "DALI graph alone": graph_alone(images, views, size, threads),
        "stillroom replay, views only": replay(""),
        "stillroom replay, with logits and proof": replay("t"),
        "Pillow + torchvision in a DataLoader": usual(images, views, size, threads),
    }


def decode_alone(images: list[np.ndarray], threads: int) -> Callable[[], int]:
    queue: Iterator[list[np.ndarray]] = iter(())
    pipeline = Pipeline(batch_size=BATCH, num_threads=threads, device_id=None, prefetch_queue_depth=2)
    with pipeline:
        fed = fn.external_source(source=lambda: next(queue), dtype=types.UINT8, ndim=1, batch=True)
        pipeline.set_outputs(fn.decoders.image(fed, device="cpu", output_type=types.RGB, jpeg_fancy_upsampling=True))
    pipeline.build()

    def run() -> int:
        nonlocal queue
        queue = iter([images[start : start + BATCH] for _ in range(REPEATS) for start in range(0, len(images), BATCH)])
        pipeline.reset()
        done = 0
        while True:
            try:
                done += len(pipeline.run()[0])
            except StopIteration:
                return done

    return run


def graph_alone(images: list[np.ndarray], views: Views, size: int, threads: int) -> Callable[[], int]:
    renderer = Renderer((size,), BATCH, threads=threads)
    rows = [np.arange(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    requests = [Request([images[row] for row in part], [views.take(part)]) for part in rows]
    return lambda: sum(rendered[0].shape[1] for rendered in renderer.stream(requests * REPEATS))


class UsualDataset(torch.utils.data.Dataset[torch.Tensor]):
    """Decodes by Pillow and cuts the same windows by torchvision."""

    def __init__(self, images: list[np.ndarray], views: Views, size: int) -> None:
        self.images, self.views, self.size = images, views, size

    def __len__(self) -> int:
        return len(self.images) * REPEATS

    def __getitem__(self, place: int) -> torch.Tensor:
        row = place % len(self.images)
        with Image.open(io.BytesIO(self.images[row].tobytes())) as opened:
            pixels = functional.pil_to_tensor(opened.convert("RGB"))
        window = [int(value) for value in self.views.window[row]]
        view = functional.resized_crop(pixels, *window, [self.size, self.size], antialias=False)
        view = functional.horizontal_flip(view) if self.views.flip[row] else view
        return functional.to_dtype(view, torch.float32, scale=True)


def usual(images: list[np.ndarray], views: Views, size: int, workers: int) -> Callable[[], int]:
    loader = torch.utils.data.DataLoader(
        UsualDataset(images, views, size), BATCH, num_workers=workers, persistent_workers=True
    )
    return lambda: sum(len(batch) for batch in loader)


def everything(cache: Cache, data: Dataset) -> tuple[list[np.ndarray], Views]:
    """All encoded images, and the parameters of view 0."""
    images: list[np.ndarray] = []
    parts: list[Views] = []
    recipe = Recipe.from_data(dict(cache.info.recipe))
    for shard in range(len(data.sizes)):
        index = data.index(shard)
        images += data.images(shard, index)
        parts.append(draw_views(recipe, cache.seeds(shard), 0, index.height, index.width))
    return images, Views(np.concatenate([p.window for p in parts]), np.concatenate([p.flip for p in parts]))


def prepare(images: Path, folder: Path, size: int) -> Config:
    """A finished cache of a small teacher over the photos."""
    folder.mkdir()
    torch.manual_seed(0)
    weights = folder / "weights.safetensors"
    save_file(build_model("timm:test_resnet", 2).state_dict(), weights)
    config = parse_config(
        {
            "run": {"dir": str(folder)},
            "data": {"train": str(images)},
            "views": {"count": REPEATS, "views_per_block": REPEATS, "mixup": True},
            "teacher": [{"name": "t", "model": "timm:test_resnet", "weights": str(weights), "size": size}],
        }
    )
    for name in ("ingest", "seeds", "teacher"):
        execute(stage_named(name), config, InProcess(), NoProgress())
    return config


def make_photos(folder: Path) -> Path:
    """Two hundred JPEGs with the detail of photos: noise at every scale."""
    folder.mkdir()
    for number in range(200):
        generator = torch.Generator().manual_seed(number)
        total = torch.zeros(1, 3, 384, 512)
        for scale in (4, 16, 64, 192):
            noise = torch.rand(1, 3, scale * 3 // 4, scale, generator=generator) - 0.5
            total += torch.nn.functional.interpolate(noise, size=(384, 512), mode="bicubic") * 4 / scale**0.5
        pixels = ((total[0] * 0.25 + 0.5).clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / f"{number:03d}.jpg", quality=88)
    return folder


def copy_in_classes(photos: Path, folder: Path) -> Path:
    """A data set of COPIES of each photo, so that an epoch is long beside its beginning."""
    for copy in range(COPIES):
        for number, path in enumerate(sorted(photos.glob("*.jpg"))):
            target = folder / str(number % 2) / f"{copy}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def timed(run: Callable[[], int]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds of this process and its children so far, views."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    views = run()
    return time.perf_counter() - wall, cpu_seconds() - cpu, views


def cpu_seconds() -> float:
    """Of this process; workers of a DataLoader are not children that have ended, so their time is read from /proc."""
    total = time.process_time()
    for child in torch.multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def report(figures: dict[str, list[tuple[float, float, int]]], arguments: argparse.Namespace) -> None:
    packages = ("stillroom", "torch", "torchvision", "nvidia-dali-cuda130", "zarr", "pillow")
    rows = []
    for name, runs in figures.items():
        rates = [views / wall for wall, _, views in runs]
        rows.append(
            {
                "way": name,
                "views_per_second": round(statistics.median(rates), 1),
                "lowest": round(min(rates), 1),
                "highest": round(max(rates), 1),
                "cpu_ms_per_view": round(1000 * statistics.median([cpu / views for _, cpu, views in runs]), 3),
            }
        )
    limit = rows[0]["views_per_second"]
    for row in rows:
        row["of_limit"] = round(float(row["views_per_second"]) / float(limit), 3)
        print(
            f"{row['way']:42} {row['views_per_second']:8.1f} views/s  ({row['lowest']:.0f} to {row['highest']:.0f})  "
            f"{row['of_limit']:.2f} of the limit  {row['cpu_ms_per_view']:.2f} CPU ms"
        )
    stated = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, GPU: {torch.cuda.is_available()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "size": arguments.size,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "photos": "given" if arguments.photos else "made, 512 × 384",
        "load_average": os.getloadavg()[0],
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(stated, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{RESULTS}\n")


if __name__ == "__main__":
    main()
