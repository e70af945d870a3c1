"""Views per second on a GPU: rendering, teachers and students, each against what the device could do at best.

    python benchmarks/gpu.py [--photos FOLDER] [--size 224] [--batch 256] [--rounds 5] [--output FILE]
    python benchmarks/gpu.py --dry      # the same code on the CPU with a tiny setting; its figures mean nothing

Each round runs every way once, one after another; medians of the rounds are given, with the lowest and the highest. The
table and `benchmarks/results/gpu.json` state GPU, driver and versions. Without a folder, photo-like JPEGs are made.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import material
import torch
from gpu_ways import Setting, decode_ways, prepare, rendering_ways, student_ways, teacher_ways
from hardware_jpeg import engine_table

RESULTS = Path(__file__).parent / "results" / "gpu.json"
PACKAGES = ("stillroom", "torch", "torchvision", "timm", "nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13", "zarr")
COPIES = 4
Way = Callable[[], int]


def main() -> None:
    arguments = parse_arguments()
    setting = Setting.dry() if arguments.dry else Setting.of(arguments)
    if not arguments.dry and not torch.cuda.is_available():
        sys.exit("there is no NVIDIA GPU here; `--dry` tries the script itself on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        count = 12 if arguments.dry else 200
        made = arguments.photos or material.photos(Path(folder) / "photos", count, 512, 384)
        run = prepare(material.copies(Path(made), Path(folder) / "copies", COPIES), Path(folder) / "run", setting)
        groups: dict[str, dict[str, Way]] = {
            "decoding": decode_ways(run, setting),
            "rendering": rendering_ways(run, setting),
            "teacher": teacher_ways(run, setting),
            "student": student_ways(run, setting),
        }
        stated = {
            **machine(),
            "setting": {name: str(value) for name, value in vars(setting).items()},
            "rounds": setting.rounds,
            "photos": "given" if arguments.photos else "made, 512 × 384",
            "groups": {name: measured(name, ways, setting.rounds) for name, ways in groups.items()},
            "hardware_jpeg": engine_table(run, setting),
        }
    if arguments.dry:
        print("dry: nothing was kept, and the figures mean nothing")
        return
    Path(arguments.output).write_text(json.dumps(stated, indent=1, ensure_ascii=False) + "\n")
    print(arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Views per second on a GPU.")
    parser.add_argument("--photos", help="a folder of JPEGs")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--teacher", default="timm:resnet50")
    parser.add_argument("--student", default="timm:resnet50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", default=str(RESULTS))
    parser.add_argument("--dry", action="store_true", help="a tiny setting on the CPU, to try the script itself")
    return parser.parse_args()


def measured(group: str, ways: dict[str, Way], rounds: int) -> list[dict[str, Any]]:
    """Rates of a group of ways, interleaved: printed, and as rows. Others are held against the first way."""
    for run in ways.values():
        run()  # compiled, recorded, and files in memory
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            rates[name].append(rate(run))
    limit = statistics.median(next(iter(rates.values())))
    rows = []
    print(f"\n{group}")
    for name, found in rates.items():
        middle = statistics.median(found)
        rows.append(
            {
                "way": name,
                "views_per_second": round(middle, 1),
                "lowest": round(min(found), 1),
                "highest": round(max(found), 1),
                "of_first": round(middle / limit, 3),
            }
        )
        print(f"  {name:58} {middle:10.1f} views/s ({min(found):.0f} to {max(found):.0f})  {middle / limit:.2f}")
    return rows


def rate(run: Way) -> float:
    """Views per second, all of the device's work included."""
    synchronise()
    started = time.perf_counter()
    views = run()
    synchronise()
    return views / (time.perf_counter() - started)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "gpu": gpu and f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {gpu.multi_processor_count} SMs",
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "load_average": os.getloadavg()[0],
    }


def driver() -> str | None:
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    main()
