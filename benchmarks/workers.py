"""How much faster two Dask workers run the teacher's stage than one process: a part of scale.py, which runs it.

Each arm is the command itself on the same run, with one torch and one rendering thread a process. DALI renders beside
torch, so that one process keeps more than one core busy: it is measured on one core alone, too, which is what a worker
has. Arms take turns, so that whatever else the machine does falls on all of them. The steady rate is counted from when
a quarter of the blocks is written, by the times of their records: by then workers have begun and models are built.
Whole commands, with all of that, are given beside it.

What two cores give at most is a matter of the machine: they share caches, memory and clock, and may be threads of one
core. So two processes with nothing in common, each on a core and a run of its own, are measured too: their rates
together, while both work, are the limit for any two workers.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from PIL import Image

from stillroom.pipeline.models.factory import build_model
from stillroom.storage.objects.local import LocalPlace

ARMS = {
    "one process on one core": ([], 1),
    "one process": ([], None),
    "two workers": (["--dask", "local", "--workers", "2"], None),
}
APART = "two processes apart"
MODEL, SIZE, PER_SHARD, PER_BLOCK = "timm:resnet10t", 128, 64, 2
_ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
_CONFIG = """
[run]
dir = "{folder}/run"
[data]
train = "{folder}/images"
samples_per_shard = {per_shard}
[views]
count = {views}
views_per_block = {per_block}
[render]
threads = 1
backend = "dali-cpu"
[[teacher]]
name = "t"
model = "{model}"
weights = "{folder}/teacher.safetensors"
size = {size}
[student]
model = "{model}"
size = {size}
"""


def measure(folder: Path, rounds: int, shards: int, views: int) -> dict[str, Any]:
    """All arms, in turn.

    Args:
        folder: for the run.
        rounds: of all arms.
        shards: data shards of 64 images each.
        views: of each image.

    Returns:
        For each arm, steady views/s and whole seconds of each round; their medians; and what two workers are times one.
    """
    config = _make_run(folder, shards, views)
    rates: dict[str, list[float]] = {arm: [] for arm in (*ARMS, APART)}
    seconds: dict[str, list[float]] = {arm: [] for arm in rates}
    for number in range(rounds):
        for arm in rates:
            rate, whole = _apart(config, folder) if arm == APART else _run(arm, config, folder)
            rates[arm].append(round(rate, 2))
            seconds[arm].append(round(whole, 2))
            print(f"| round {number + 1}, {arm} | {rate:.1f} views/s | {whole:.1f} s in all |", flush=True)
    medians = {arm: statistics.median(found) for arm, found in rates.items()}
    ratios = {arm: round(medians["two workers"] / medians[arm], 3) for arm in rates if arm != "two workers"}
    for arm, ratio in ratios.items():
        print(f"| two workers are | {ratio:.2f} times {arm} |", flush=True)
    return {
        "views": shards * PER_SHARD * views,
        "blocks": shards * views // PER_BLOCK,
        "model": f"{MODEL}, {SIZE} px",
        "views_per_second": rates,
        "whole_seconds": seconds,
        "median_views_per_second": medians,
        "two_workers_times": ratios,
    }


def _run(arm: str, config: Path, folder: Path) -> tuple[float, float]:
    """Steady views/s, and seconds of the whole command."""
    more, cores = ARMS[arm]
    cache = folder / "run/cache"
    shutil.rmtree(cache, ignore_errors=True)
    _stage("seeds", config)
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    started = time.perf_counter()
    _stage("teacher", config, *more, cores=allowed)
    whole = time.perf_counter() - started
    times = _times(cache)
    first = len(times) // 4
    return _views(times[first:]) / (times[-1] - times[first]), whole


def _apart(config: Path, folder: Path) -> tuple[float, float]:
    """The same of two processes on a core and a cache each: from when both have a quarter, until one has ended."""
    caches = [folder / "apart" / str(number) for number in range(2)]
    for cache in caches:
        shutil.rmtree(cache, ignore_errors=True)
        _stage("seeds", config, "--set", f"cache.dir={cache}")
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            _command("teacher", config, "--set", f"cache.dir={cache}", cores=[core]),
            stdout=subprocess.DEVNULL,
            env=_ENVIRONMENT,
        )
        for cache, core in zip(caches, sorted(os.sched_getaffinity(0)), strict=False)
    ]
    if any([process.wait() for process in running]):  # noqa: C419, every one is waited for
        raise RuntimeError("one of two processes apart failed; see above")
    whole = time.perf_counter() - started
    each = [_times(cache) for cache in caches]
    begin, end = max(times[len(times) // 4] for times in each), min(times[-1] for times in each)
    parts = [[time for time in times if begin <= time <= end] for times in each]
    return sum(_views(part) / (part[-1] - part[0]) for part in parts), whole


def _times(cache: Path) -> list[float]:
    """When each block was recorded, in seconds, in order."""
    return sorted(LocalPlace(cache).times("ledger/teachers/t/blocks").values())


def _views(times: list[float]) -> int:
    """How many were made from the first of these records to the last."""
    return (len(times) - 1) * PER_SHARD * PER_BLOCK


def _command(name: str, config: Path, *more: str, cores: list[int] | None = None) -> list[str]:
    command = [sys.executable, "-m", "stillroom.stages", name, str(config), *more]
    return command if cores is None else ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


def _stage(name: str, config: Path, *more: str, cores: list[int] | None = None) -> None:
    subprocess.run(_command(name, config, *more, cores=cores), check=True, capture_output=True, env=_ENVIRONMENT)


def _make_run(folder: Path, shards: int, views: int) -> Path:
    """Smooth photos of 500 × 375 pixels, a teacher that knows nothing, and both stages before it."""
    random = np.random.default_rng(0)
    for number in range(shards * PER_SHARD):
        path = folder / "images" / str(number % 10) / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)
    about = {"classes": json.dumps([str(number) for number in range(10)])}
    weights = safetensors.torch.save(build_model(MODEL, 10).state_dict(), about)
    (folder / "teacher.safetensors").write_bytes(weights)
    config = folder / "config.toml"
    config.write_text(
        _CONFIG.format(folder=folder, per_shard=PER_SHARD, views=views, per_block=PER_BLOCK, model=MODEL, size=SIZE)
    )
    _stage("ingest", config)
    return config
