"""Views per second of the whole teacher stage against the bare forward pass, for several views to a decode.

    python benchmarks/teacher_stage.py [--teachers timm:resnet50@224:320] [--rounds 3]

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

from stillroom.stages.teacher.worker_cache import loaded_teacher
from stillroom.storage.dataset.dataset import Dataset

STAGE, BARE = "the stage", "the bare forward pass"
VIEWS = (1, 2, 5, 10)
TEACHERS = ("torchvision:mobilenet_v3_small@128:1280", "torchvision:resnet18@128:640", "timm:resnet50@224:320")
"""MODEL@PIXELS:VIEWS, the views that it sees each time: one block, of few photos where each has many views. Were there
fewer, a task's own tenth of a second would weigh more than in a data shard of a thousand photos."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", nargs="+", default=TEACHERS, help="MODEL@PIXELS:VIEWS")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for teacher in arguments.teachers:
            name, _, total = teacher.rpartition(":")
            photos = material.photos(Path(folder) / teacher, int(total) // VIEWS[-1], 500, 375)
            for views in VIEWS:
                place = Path(folder) / f"{teacher} {views}"
                images = material.copies(photos, place / "images", VIEWS[-1] // views)
                found = measured(place, images, name, views, arguments.rounds)
                for way, taken in found.items():
                    row = {"teacher": name, "views_to_a_decode": views, **taken.row(way, "views")}
                    rows.append({**row, "of_bare": taken.against(found[BARE])})
                    print(rows[-1], flush=True)
    timing.save("teacher_stage", rows, codec="float16")


def measured(folder: Path, images: Path, name: str, views: int, rounds: int):
    """Both ways over as many views."""
    model, _, pixels = name.partition("@")
    size = int(pixels)
    data = {"samples_per_shard": 1280}  # one data shard, one task
    config = material.run_config(
        folder, images, model, size, views={"count": views, "views_per_block": views}, data=data
    )
    material.run_stages(config, ["ingest", "seeds"])
    (section,) = config.teacher
    teacher = loaded_teacher(section, Dataset(config.data_place).classes)
    resident = torch.rand(sum(Dataset(config.data_place).sizes), 3, size, size)
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

    return timing.interleaved({STAGE: stage, BARE: bare}, rounds, before)


if __name__ == "__main__":
    main()
