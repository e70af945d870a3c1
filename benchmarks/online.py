"""Time to the same students with the teacher in the loop, and from a cache that is made first.

    python benchmarks/online.py [--size 96] [--samples 128] [--epochs 4] [--rounds 3]

For teachers of several costs and one, two and four students. There are as many views as epochs, the cache's worst case:
each student uses each view once. Online, students are trained one by one, and one is timed for all. From the cache, the
teacher's stage is timed, one student alone, and two and four in one pass. Both ways see the same views and, to
rounding, the same logits. A teacher's cost is its share of a step online over that of the student's own share.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import material
import timing
import torch

from stillroom.pipeline.config.config import Config

STUDENT = "torchvision:mobilenet_v3_small"
TEACHERS = (
    "torchvision:resnet18@96",
    "timm:resnet50@128",
    "timm:resnet152@176",
)  # of about 1, 5 and 20 steps of the student; timm's answer moderately, untrained
COUNTS = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96, help="pixels of the student's views")
    parser.add_argument("--teachers", nargs="+", default=TEACHERS, help="MODEL@SIZE")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        images = material.photos(Path(folder) / "photos", arguments.samples, 500, 375)
        for number, teacher in enumerate(arguments.teachers):
            rows += measured(Path(folder) / str(number), images, teacher, arguments)
    timing.save(
        "online", rows, size=arguments.size, samples=arguments.samples, epochs=arguments.epochs, rounds=arguments.rounds
    )


def measured(folder: Path, images: Path, teacher: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one teacher."""
    model, _, size = teacher.partition("@")

    def config(name: str, count: int, target: str) -> Config:
        student = {"target": target, "model": STUDENT, "size": arguments.size, "batch_size": 32}
        students = [
            {**student, "epochs": arguments.epochs, "name": f"{name}{place}", "learning_rate": 1e-3 * (1 + place)}
            for place in range(count)
        ]
        views = {"count": arguments.epochs, "views_per_block": arguments.epochs}
        found = material.run_config(folder, images, model, int(size), views=views, cache={"temperatures": [1]})
        return found.model_validate({**found.model_dump(), "student": students})

    online, alone = config("online", 1, "online"), config("alone", 1, "cache")
    material.run_stages(online, ["ingest", "seeds"])
    steps: dict[str, Callable[[], Any]] = {
        "online": lambda: material.run_stages(online, ["student"]),
        "teacher": lambda: material.run_stages(alone, ["teacher"]),
        "cached 1": lambda: material.run_stages(alone, ["student"]),
    }
    for count in COUNTS[1:]:
        together = config(f"of{count}-", count, "cache")
        steps[f"cached {count}"] = lambda together=together: material.run_stages(together, ["train-many"])
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.rounds + 1):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        shutil.rmtree(folder / "students", ignore_errors=True)
        material.run_stages(online, ["seeds"])
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    rows = []
    for count in COUNTS:
        ratios = [
            count * there / (made + here)
            for there, made, here in zip(seconds["online"], seconds["teacher"], seconds[f"cached {count}"], strict=True)
        ]
        ratio = {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        middle = {name: statistics.median(taken) for name, taken in seconds.items()}
        rows.append(
            {
                "teacher": teacher,
                "its_cost": timing.significant((middle["online"] - middle["cached 1"]) / middle["cached 1"], 3),
                "students": count,
                "online_s": timing.significant(count * middle["online"]),
                "cache_s": timing.significant(middle["teacher"]),
                "students_s": timing.significant(middle[f"cached {count}"]),
                "times_faster": {key: round(value, 2) for key, value in ratio.items()},
                "times_faster_once_there": round(count * middle["online"] / middle[f"cached {count}"], 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
