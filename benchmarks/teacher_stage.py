"""Views per second of the whole teacher stage against the bare forward pass, for several views to a decode.

    python benchmarks/teacher_stage.py [--size 128] [--samples 96] [--rounds 5]

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["torchvision:mobilenet_v3_small", "torchvision:resnet18"])
    parser.add_argument("--size", type=int, default=128, help="pixels")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        images = material.photos(Path(folder) / "photos", arguments.samples, 500, 375)
        for model in arguments.models:
            for views in VIEWS:
                found = measured(Path(folder) / f"{model} {views}", images, model, views, arguments)
                for way, taken in found.items():
                    row = {"teacher": model, "views_to_a_decode": views, **taken.row(way, "views")}
                    rows.append({**row, "of_bare": taken.against(found[BARE])})
                    print(rows[-1], flush=True)
    timing.save("teacher_stage", rows, size=arguments.size, samples=arguments.samples, codec="float16")


def measured(folder: Path, images: Path, model: str, views: int, arguments: argparse.Namespace):
    """Both ways over as many views."""
    config = material.run_config(
        folder, images, model, arguments.size, views={"count": views, "views_per_block": views}
    )
    material.run_stages(config, ["ingest", "seeds"])
    (section,) = config.teacher
    teacher = loaded_teacher(section, Dataset(config.data_place).classes)
    resident = torch.rand(arguments.samples, 3, arguments.size, arguments.size)
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
