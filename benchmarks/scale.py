"""What a run costs at scale: keeping the books, by plans in numbers; and how much faster two workers are than one.

    python benchmarks/scale.py                       # both parts
    python benchmarks/scale.py --parts books         # ImageNet × 300 views, ImageNet-22k × 90 views; some ten minutes
    python benchmarks/scale.py --parts books --plans imagenet --folder /some/local/disk
    python benchmarks/scale.py --parts workers       # on two free cores; see workers.py; some ten minutes

Books: planning, status, an epoch's order, and a sealed ledger. No image is read: ledgers and metadata are written as
ingest and the teacher write them (tests/trials/simulated.py).
Each figure is of a process of its own: seconds by the clock and of CPU, and the most memory it took, imports and all.
Prints tables, and writes each part with its machine, load and versions to benchmarks/results/scale.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import workers
from trials import simulated

PLANS = {"imagenet": simulated.IMAGENET, "imagenet-22k": simulated.IMAGENET_22K}
BEFORE = {
    "imagenet status": {"seconds": 19.6, "cpu": None, "peak_mb": 1059},
    "imagenet teacher's tasks and done": {"seconds": 9.7, "cpu": None, "peak_mb": 839},
    "imagenet open, finished views": {"seconds": 0.6, "cpu": None, "peak_mb": 66},
    "imagenet-22k order of an epoch": {"seconds": 10.1, "cpu": None, "peak_mb": 823},
}
"""As measured with this script's steps at commit 007bc44, on the machine of the committed results."""
_STEPS = {
    "teacher's tasks and done": """
from stillroom.stages.teacher.stage import STAGE
ready()
check = STAGE.done(config)
tasks = STAGE.tasks(config)
said["tasks"], said["done"] = len(tasks), sum(map(check, tasks))
""",
    "status": """
from stillroom.stages.maintenance.status import status_of
ready()
said["done"] = status_of(config)["stages"][2]["done"]
""",
    "open, finished views": """
from stillroom.storage.cache.cache import Cache
ready()
cache = Cache(config.cache_place)
teacher = cache.teacher("t")
said["open"] = since()
said["views"] = teacher.finished_views()
""",
    "order of an epoch": """
from stillroom.pipeline.replay.epoch_order import Order
from stillroom.storage.dataset.dataset import Dataset
sizes = Dataset(config.data_place).sizes
ready()
said["samples"] = len(Order(sizes, 1024, 0, True).places(3))
""",
    "seal": """
from stillroom.stages.maintenance.seal import seal_cache
ready()
said |= {key: value for key, value in seal_cache(config).items() if key != "cache"}
""",
}
_PROCESS = """
import json, sys, time
from stillroom.pipeline.config.config import load_config
config, said, started = load_config(sys.argv[1], ()), {}, [0.0, 0.0]
def ready():
    started[:] = time.perf_counter(), time.process_time()
def since():
    return round(time.perf_counter() - started[0], 3)
exec(sys.argv[2])
cpu = round(time.process_time() - started[1], 2)
# Not getrusage: that counts what the process that started this one had.
peak = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": since(), "cpu": cpu, "peak_mb": peak, **said}))
"""


def measured(config: Path, step: str) -> dict[str, Any]:
    """A step in a process of its own."""
    command = [sys.executable, "-c", _PROCESS, str(config), _STEPS[step]]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(ended.stdout))


def measure(name: str, folder: Path) -> dict[str, Any]:
    """All steps on one plan: with every task done, then sealed."""
    plan = PLANS[name]
    path = simulated.in_toml(simulated.simulate(folder, plan), folder / "config.toml")
    found = {}
    for sealed in ("", ", sealed"):
        for step in _STEPS:
            if (step == "seal" and sealed) or (step == "order of an epoch" and sealed):
                continue
            key = f"{name} {step}{sealed}"
            found[key] = measured(path, step)
            row = found[key]
            old = BEFORE.get(key)
            before = f" (before: {old['seconds']} s, {old['peak_mb']} MB)" if old else ""
            rest = {key: value for key, value in row.items() if key not in ("seconds", "cpu", "peak_mb")}
            print(f"| {key} | {row['seconds']} s{before} | {row['cpu']} s | {row['peak_mb']} MB | {rest} |", flush=True)
    return found


def about(load: float) -> dict[str, Any]:
    """The machine, what else it did, and the versions."""
    packages = ("stillroom", "numpy", "zarr", "xxhash", "torch", "distributed", "nvidia-dali-cuda130")
    return {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("books", "workers"), default=["books", "workers"])
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--rounds", type=int, default=5, help="of one process and two workers")
    parser.add_argument("--shards", type=int, default=8, help="data shards of 64 images that they see")
    parser.add_argument("--views", type=int, default=12, help="views of each image")
    parser.add_argument("--folder", type=Path, help="where all of it goes for the time of it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "scale.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "books" in arguments.parts:
        load = os.getloadavg()[0]
        print("| what | time | CPU | memory | found |\n|---|---|---|---|---|", flush=True)
        rows: dict[str, Any] = {}
        for name in arguments.plans:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                rows |= measure(name, Path(folder))
        plans = {name: {**vars(PLANS[name]), "blocks": PLANS[name].blocks} for name in arguments.plans}
        result |= {**about(load), "plans": plans, "before": BEFORE, "rows": rows}
    if "workers" in arguments.parts:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            found = workers.measure(Path(folder), arguments.rounds, arguments.shards, arguments.views)
        result["workers"] = {**about(load), **found}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
