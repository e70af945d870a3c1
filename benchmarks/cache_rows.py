"""Rows per second written to and read from a cache, by codec, with all that keeps it honest: fsync, records, digests.

    python benchmarks/cache_rows.py [--classes 1000] [--rows 1000] [--rounds 5]

Logits are made, with the spectrum of real ones (`material.logits`). A write is what the teacher's task does
after its forward passes: encode, measure what that lost, write shards, fsync, write the record. A first reading is
through a cache that was just opened, which reads each object whole and holds it against its record; a second one reads
what it wants. Beside them, logits as others keep them: one `.pt` file of float32 for each row.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import material
import numpy as np
import timing
import torch

from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.codecs.registry import TransformModel, fit
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.local import LocalPlace
from stillroom.storage.writers import block
from stillroom.storage.writers.teacher import TeacherWriter

CODECS = ("float32", "float16", "int8", "topk:100", "sqrtp", "transform")
VIEWS, SAMPLES = 4, 250
TEMPERATURES = (1.0,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    count = VIEWS * SAMPLES
    made = material.logits(arguments.classes, 3000 + count, 0.25)
    logits = made[3000:].reshape(VIEWS, SAMPLES, arguments.classes)
    model = fit(made[:3000], TEMPERATURES, 0.02)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codec in CODECS:
            ways = ways_of(Path(folder) / codec.replace(":", "-"), codec, logits, model)
            rows += rows_of(codec, timing.interleaved(ways, arguments.rounds))
        files = Path(folder) / "files"
        files.mkdir()
        rows += rows_of("a .pt file each", timing.interleaved(one_file_each(files, logits), arguments.rounds))
    timing.save("cache_rows", rows, classes=arguments.classes, block=f"{VIEWS} views of {SAMPLES} samples")


def rows_of(codec: str, found: dict[str, timing.Timing]) -> list[dict[str, object]]:
    rows = [{"codec": codec, **taken.row(name, "rows")} for name, taken in found.items()]
    for row in rows:
        print(row, flush=True)
    return rows


def ways_of(folder: Path, codec: str, logits: np.ndarray, model: TransformModel) -> dict[str, timing.Way]:
    """Writing a block, reading it as a student does for the first time, and again."""
    views, samples, classes = logits.shape
    numbers = itertools.count()
    info = CacheInfo({"flip": True}, 0, {"data": "d"}, (samples,), views)
    digests = np.zeros((views, samples), np.uint16)
    latest: list[Cache] = []

    def writer_at(place: LocalPlace) -> TeacherWriter:
        transform = {"model": model.digest, "cache": {}} if codec == "transform" else {}
        about = TeacherInfo({"model": "m", "weights": "w"}, classes, 2, codec, (), transform)
        used = model if codec == "transform" else None
        return TeacherWriter(Ledger(place), info.layout, "t", about, info.views, views, used, TEMPERATURES)

    places: list[LocalPlace] = []

    def lay_out() -> None:
        place = LocalPlace(folder / str(next(numbers)))
        create_cache(place, info, [np.zeros(samples, np.uint64)])
        writer_at(place).lay_out()
        places.append(place)

    def write() -> int:
        lay_out()
        block.write_block(writer_at(places[-1]), 0, 0, logits, digests, {}, {})
        return views * samples

    def read(cache: Cache) -> int:
        teacher = cache.teacher("t")
        return sum(len(teacher.logits(0, view)) for view in range(views))

    def first() -> int:
        latest[:] = [Cache(places[-1])]
        return read(latest[0])

    def again() -> int:
        return read(latest[0])

    return {"write": write, "first reading": first, "second reading": again}


def one_file_each(folder: Path, logits: np.ndarray) -> dict[str, timing.Way]:
    """Logits as others keep them, without fsync, records or digests."""
    rows = torch.from_numpy(logits.reshape(-1, logits.shape[-1]))

    def write() -> int:
        for number, row in enumerate(rows):
            torch.save(row.clone(), folder / f"{number}.pt")
        return len(rows)

    def read() -> int:
        return sum(torch.load(folder / f"{number}.pt").ndim for number in range(len(rows)))

    return {"write": write, "reading": read}


if __name__ == "__main__":
    main()
