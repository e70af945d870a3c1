"""Whether time and memory grow: with a data shard's size, with the number of views, and with the photos' size.

    python benchmarks/growth.py                     # 10,000 photos, four sizes of data shards; some fifteen minutes
    python benchmarks/growth.py --samples 1000 --rounds 1 --largest 100000

Three questions, each figure from a process of its own:
(a) ingest, the teacher's pass and replay of the same photos in data shards of 10 to 10,000, with little memory allowed,
    and, for the largest, with much;
(b) an epoch's order and the plans of its batches, from 10³ samples to ImageNet-22k's 14 million;
(c) the same as (a) where a few photos of 100 megapixels lie beside small ones, as they are and made smaller at ingest.
CPU milliseconds per view; the most memory that a process took (VmHWM) beside what it had after its imports. Rounds are
interleaved; medians, of memory the most. Prints tables, and writes benchmarks/results/growth.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
SIZES = (10, 100, 1000, 10_000)
SAMPLES = (1_000, 10_000, 100_000, 1_000_000, 14_197_122)
LITTLE, MUCH = {"encoded_mb": 32, "memory_mb": 16}, {"encoded_mb": 4096, "memory_mb": 1024}
PIXELS, SIDE = 64, 512
_MEASURED = """
import json, shutil, sys, time
import torch
from stillroom.pipeline.device.malloc import keep_freed_memory
from stillroom.pipeline.config.config import load_config
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named
from stillroom.stages.teacher.worker_cache import block_maker
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
keep_freed_memory()
torch.set_num_threads(1)
def peak():
    # Not getrusage: that counts what the process that started this one had.
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
config = load_config(sys.argv[1], ())
kind, imports = sys.argv[2], peak()
if kind == "ingest":
    shutil.rmtree(config.run.dir, ignore_errors=True)
    cpu, wall = time.process_time(), time.perf_counter()
    execute(stage_named("ingest"), config, InProcess(), NoProgress())
    views = sum(Dataset(config.data_place).sizes)
elif kind == "teacher":
    shutil.rmtree(str(config.cache_place), ignore_errors=True)
    execute(stage_named("seeds"), config, InProcess(), NoProgress())
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    # What a worker builds once is built before the clock starts.
    maker = block_maker(config, config.teacher[0], data.classes, cache.layout.slots)
    images, views = data.images(0, data.index(0), config.render.encoded), range(maker.renderer.views)
    maker.make(data.index(0).first(8), images[:8], cache.seeds(0)[:8], views, lambda *_: None)
    del images
    cpu, wall = time.process_time(), time.perf_counter()
    execute(stage_named("teacher"), config, InProcess(), NoProgress())
    views = sum(Cache(config.cache_place).layout.sizes) * config.views.count
else:
    loader = ReplayLoader(
        Cache(config.cache_place), data=str(config.data_place), batch_size=64, size=config.teacher[0].size, seed=0,
        threads=1, encoded_mb=config.render.encoded_mb,
    )
    next(loader.epoch(0))
    cpu, wall = time.process_time(), time.perf_counter()
    views = sum(len(batch) for batch in loader.epoch(0))
print(json.dumps({
    "views": views, "cpu_ms": 1000 * (time.process_time() - cpu) / views,
    "wall_ms": 1000 * (time.perf_counter() - wall) / views, "imports_mb": imports, "peak_mb": peak(),
}))
"""
_PLANNED = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from stillroom.pipeline.replay import epoch_reader
from stillroom.pipeline.replay.epoch_order import Order
from stillroom.pipeline.augment.recipe import Recipe, Views
from stillroom.pipeline.replay.shard_views import ShardViews
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import Allowance
from trials import simulated
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
def load(cache, data, recipe, shard, view, *rest):
    # What a data shard holds but its images, which are not there.
    count = data.sizes[shard]
    seeds = cache.seeds(shard)
    views = Views({"crop": np.zeros((count, 4), np.int32), "flip": np.zeros(count, np.int32)})
    mix = recipe.mixing.draw(seeds, view)
    return ShardViews(shard, view, None, (), views, mix, recipe.mixing.pair_order(seeds, view), (), {})
epoch_reader.load_shard = load
with tempfile.TemporaryDirectory() as folder:
    config = simulated.simulate(Path(folder), simulated.Plan(int(sys.argv[2]), 1, per_block=1, canaries=0), 0.0)
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    batch = min(1024, data.samples // 2)
    recipe = Recipe.from_data(dict(cache.info.recipe))
    order = Order(data.sizes, batch, 0, recipe.mixup)
    reader = epoch_reader.EpochReader(cache, data, order, 1, (), (), 0, 1, Allowance(0))
    imports, cpu = peak(), time.process_time()
    places = order.places(0)
    ordering = time.process_time() - cpu
    del places
    ordered, cpu, wall, rows = peak(), time.process_time(), time.perf_counter(), 0
    for number, plan in enumerate(reader.rows(0, 0)):
        if number == 0:
            first = time.perf_counter() - wall
        rows += len(plan.own)
    cpu = time.process_time() - cpu
print(json.dumps({
    "samples": rows, "order_us": 1e6 * ordering / rows, "plans_us": 1e6 * cpu / rows, "order_seconds": ordering,
    "first_batch_seconds": first, "imports_mb": imports, "order_mb": ordered, "peak_mb": peak(),
}))
"""


def measured(code: str, *arguments: str) -> dict[str, Any]:
    """What a process of its own says."""
    ended = subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(ended.stdout))


def photos(folder: Path, count: int) -> Path:
    """Photos of 224 × 224, some 25 KB each; two hundred pictures under as many names as are asked for."""
    made = []
    for number in range(min(count, 200)):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).resize(
            (224, 224), Image.Resampling.BICUBIC
        )
        grain = random.integers(-20, 21, (224, 224, 3))
        path = folder / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(path, quality=88)
        made.append(path)
    for number in range(200, count):
        source = made[number % 200]
        source.with_name(f"{number}.jpg").hardlink_to(source)
    return folder


def add_large(folder: Path, count: int) -> None:
    """Photos of 100 megapixels, smooth, so that they are small files."""
    path = folder / "a" / "large-0.jpg"
    row = np.linspace(0, 255, 10_000).astype(np.uint8)
    Image.merge("RGB", [Image.fromarray(np.broadcast_to(row, (10_000, 10_000)))] * 3).save(path, quality=85)
    for number in range(1, count):
        path.with_name(f"large-{number}.jpg").hardlink_to(path)


def prepare(folder: Path, images: Path, per_shard: int, views: int, max_side: int | None = None) -> dict[str, Path]:
    """A run, and its config for each amount of memory."""
    paths = {}
    folder.mkdir()
    for name, memory in (("little", LITTLE), ("much", MUCH)):
        tables = {
            "run": {"dir": str(folder / "run")},
            "data": {
                "train": str(images),
                "samples_per_shard": per_shard,
                **({"max_side": max_side} if max_side else {}),
            },
            "views": {"count": views, "views_per_block": views},
            "render": {"backend": "dali-cpu", "threads": 1, **memory},
            "teacher": {
                "name": "t",
                "model": "timm:test_resnet",
                "weights": str(images.parent / "w.safetensors"),
                "size": PIXELS,
            },
            "cache": {"canaries": 0},
        }
        lines = [
            line
            for table, keys in tables.items()
            for line in (f"[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in keys.items()))
        ]
        paths[name] = folder / f"{name}.toml"
        paths[name].write_text("\n".join(lines).replace("[teacher]", "[[teacher]]") + "\n", encoding="utf-8")
    return paths


def weights(path: Path) -> None:
    """A teacher of two classes, untrained."""
    code = (
        "import sys, safetensors.torch, torch; from stillroom.pipeline.models.factory import build_model; "
        "torch.manual_seed(0); "
        "safetensors.torch.save_file(build_model('timm:test_resnet', 2).state_dict(), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of each figure; of memory the most."""
    return {
        key: round(
            max(run[key] for run in runs) if key.endswith("_mb") else statistics.median(run[key] for run in runs), 4
        )
        for key in runs[0]
    }


def passes(cases: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Ingest, the teacher's pass and replay of each case, interleaved."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for name, path in cases.items():
            for kind in ("ingest", "teacher", "replay"):
                runs.setdefault(f"{kind}, {name}", []).append(measured(_MEASURED, str(path), kind))
    rows = {name: medians(found) for name, found in sorted(runs.items(), reverse=True)}
    print("\n| what | views | CPU ms/view | wall ms/view | peak MB | of it imports |\n|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['views']:.0f} | {row['cpu_ms']:.2f} | {row['wall_ms']:.2f} | {row['peak_mb']:.0f} | "
            f"{row['imports_mb']:.0f} |",
            flush=True,
        )
    return rows


def plans(counts: list[int]) -> dict[str, Any]:
    """Order and plans of an epoch."""
    rows = {}
    print("\n| samples | order µs | plans µs | order s | first batch s | peak MB | of it imports |")
    print("|---|---|---|---|---|---|---|")
    for count in counts:
        row = rows[str(count)] = measured(_PLANNED, str(ROOT / "tests"), str(count))
        print(
            f"| {count:,} | {row['order_us']:.2f} | {row['plans_us']:.2f} | {row['order_seconds']:.2f} | "
            f"{row['first_batch_seconds']:.2f} | {row['peak_mb']:.0f} | {row['imports_mb']:.0f} |",
            flush=True,
        )
    return rows


def of_sizes(folder: Path, samples: int) -> dict[str, Path]:
    """Cases of (a). Of the smallest data shards a tenth of the samples: each is a task of its own, with its fsyncs."""
    weights(folder / "w.safetensors")
    images, few = photos(folder / "images", samples), photos(folder / "few", samples // 10)
    cases = {}
    for size in (size for size in SIZES if size <= samples):
        paths = prepare(folder / f"of-{size}", few if size == SIZES[0] else images, size, 1)
        cases[f"data shards of {size:,}"] = paths["little"]
    cases[f"data shards of {size:,}, much memory allowed"] = paths["much"]
    return cases


def with_large(folder: Path, large: int) -> dict[str, Path]:
    """Cases of (c)."""
    weights(folder / "w.safetensors")
    cases = {"400 small photos": prepare(folder / "small", photos(folder / "alone", 400), 500, 2)["much"]}
    images = photos(folder / "beside", 400)
    add_large(images, large)
    beside = f"400 small photos and {large} of 100 megapixels"
    cases[beside] = prepare(folder / "large", images, 500, 2)["much"]
    cases[f"{beside}, max_side = {SIDE}"] = prepare(folder / "smaller", images, 500, 2, SIDE)["much"]
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="+", choices=("plans", "shards", "large"), default=["plans", "shards", "large"]
    )
    parser.add_argument("--samples", type=int, default=10_000, help="photos of (a)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--largest", type=int, default=SAMPLES[-1], help="samples of (b) at most")
    parser.add_argument("--large", type=int, default=4, help="photos of 100 megapixels of (c)")
    parser.add_argument("--folder", type=Path, help="where the photos go for the time of it")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    path = arguments.out / "growth.json"
    load = os.getloadavg()[0]
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "plans" in arguments.parts:
        result["plans"] = plans([count for count in SAMPLES if count <= arguments.largest])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        if "shards" in arguments.parts:
            result["shards"] = passes(of_sizes(Path(name), arguments.samples), arguments.rounds)
        if "large" in arguments.parts:
            result["large"] = passes(with_large(Path(name), arguments.large), arguments.rounds)
    about = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "python": platform.python_version(),
        "versions": {
            name: metadata.version(name)
            for name in (
                "stillroom",
                "numpy",
                "torch",
                "nvidia-dali-cuda130",
                "nvidia-nvimgcodec-cu13",
                "zarr",
                "pillow",
            )
        },
        "little": LITTLE,
        "much": MUCH,
        "rounds": arguments.rounds,
        "pixels": PIXELS,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**result, **about}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
