"""What learning from the cache costs a student: its steps per second against the same loop on labels alone.

    python benchmarks/replay_tax.py [--model torchvision:resnet18] [--size 224] [--batch 32] [--rounds 5]

Four students of one model take turns of a few steps: from the cache, with logits and proof; on labels, over the same
views; on labels by a usual loader (Pillow and torchvision in a DataLoader); and on batches that lie ready in memory.
"""

import argparse
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import loader
import material
import numpy as np
import timing
import torch

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.replay.batch import Batch
from stillroom.stages.student.build import pass_of, trainer_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset

STEPS = 4
CACHE, LABELS, USUAL, READY = (
    "from the cache",
    "on labels, the same views",
    "on labels, a usual loader",
    "on ready batches",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["torchvision:mobilenet_v3_small", "torchvision:resnet18"])
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = material.photos(Path(folder) / "photos", 200, 500, 375)
        images = material.copies(photos, Path(folder) / "copies", 4)
        for number, model in enumerate(arguments.models):
            student = {"model": model, "size": arguments.size, "batch_size": arguments.batch, "epochs": 100}
            config = material.run_config(
                Path(folder) / str(number), images, loader.TEACHER, arguments.size, student=student
            )
            material.run_stages(config, ["ingest", "seeds", "teacher"])
            found = timing.interleaved(ways_of(config, threads), arguments.rounds)
            for way, taken in found.items():
                row = {"student": model, **taken.row(way, "views"), "of_labels": taken.against(found[LABELS])}
                rows.append({**row, "of_ready": taken.against(found[READY])})
                print(rows[-1], flush=True)
    timing.save("replay_tax", rows, size=arguments.size, batch=arguments.batch, steps_a_turn=STEPS)


def ways_of(config: Config, threads: int) -> dict[str, timing.Way]:
    """Each takes a few steps of a student of its own and returns how many views those were."""
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    (student,) = config.student
    on_labels = student.model_copy(update={"target": "labels"})
    ready = list(itertools.islice(pass_of(config, [student], cache, data, Ranks()).epoch(0), 3))
    images, views = loader.everything(cache, data)
    usual = torch.utils.data.DataLoader(
        loader.UsualDataset(images, views, student.size),
        student.batch_size,
        num_workers=threads,
        drop_last=True,
        persistent_workers=True,
    )
    batches: dict[str, tuple[str, Iterator[Batch]]] = {
        CACHE: ("cache", (batch for (batch,) in endless(lambda: pass_of(config, [student], cache, data, Ranks())))),
        LABELS: ("labels", (batch for (batch,) in endless(lambda: pass_of(config, [on_labels], cache, data, Ranks())))),
        USUAL: ("labels", unmixed(usual)),
        READY: ("cache", (batch for (batch,) in itertools.cycle(ready))),
    }
    found = {}
    for name, (target, source) in batches.items():
        section = student.model_copy(update={"target": target})
        trainer = trainer_of(config, section, data, 10**6, Ranks())

        def run(trainer=trainer, source=source) -> int:
            for batch in itertools.islice(source, STEPS):
                trainer.train(batch)
            return STEPS * student.batch_size

        found[name] = run
    return found


def endless(opened) -> Iterator[tuple[Batch, ...]]:
    """Epoch after epoch of a pass."""
    shared = opened()
    for epoch in itertools.count():
        yield from shared.epoch(epoch)


def unmixed(source) -> Iterator[Batch]:
    """A usual loader's images as batches of samples that are alone."""
    while True:
        for (images,) in source:
            count = len(images)
            labels, zeros = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
            shares, uids = torch.ones(count), np.zeros(count, np.uint64)
            yield Batch(images, None, labels, labels, shares, uids, zeros, zeros, None, 0)


if __name__ == "__main__":
    main()
