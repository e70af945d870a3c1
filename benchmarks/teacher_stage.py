"""Views per second of the whole teacher stage against the bare forward pass, for several views to a decode.

    python benchmarks/teacher_stage.py [--teachers timm:resnet50@224] [--samples 64] [--rounds 3]

The stage reads tars, decodes, renders, mixes, digests, asks, measures, encodes and writes with fsync; the bare pass
asks the same model, in the same batches, about images that lie in memory. Both by all cores.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import material
import timing
import torch

from stillroom.stages.workers import loaded_teacher
from stillroom.storage.dataset import Dataset

STAGE, BARE = "the stage", "the bare forward pass"
VIEWS = (1, 2, 5, 10)
TEACHERS = ("torchvision:mobilenet_v3_small@128", "torchvision:resnet18@128", "timm:resnet50@224")
"""Of 1, 8 and 60 CPU milliseconds a view, about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", nargs="+", default=TEACHERS, help="MODEL@PIXELS")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        images = material.photos(Path(folder) / "photos", arguments.samples, 500, 375)
        for teacher in arguments.teachers:
            for views in VIEWS:
                found = measured(Path(folder) / f"{teacher} {views}", images, teacher, views, arguments)
                for way, taken in found.items():
                    row = {"teacher": teacher, "views_to_a_decode": views, **taken.row(way, "views")}
                    rows.append({**row, "of_bare": taken.against(found[BARE])})
                    print(rows[-1], flush=True)
    timing.save("teacher_stage", rows, samples=arguments.samples, codec="float16")


def measured(folder: Path, images: Path, name: str, views: int, arguments: argparse.Namespace):
    """Both ways over as many views."""
    model, _, pixels = name.partition("@")
    size = int(pixels)
    config = material.run_config(folder, images, model, size, views={"count": views, "views_per_block": views})
    material.run_stages(config, ["ingest", "seeds"])
    (section,) = config.teacher
    teacher = loaded_teacher(section, Dataset(config.data_place).classes)
    resident = torch.rand(arguments.samples, 3, size, size)
    resident = resident.contiguous(memory_format=torch.channels_last)

    def stage() -> int:
        (summary,) = material.run_stages(config, ["teacher"])
        return summary.units

    def bare() -> int:
        for _ in range(views):
            teacher(resident)
        return views * len(resident)

    def before(way: str) -> None:
        if way == STAGE:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            material.run_stages(config, ["seeds"])

    return timing.interleaved({STAGE: stage, BARE: bare}, arguments.rounds, before)


if __name__ == "__main__":
    main()
