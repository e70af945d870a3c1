"""Hostile images: each gets a verdict, in time and memory, and each that is accepted renders.

python -m trials.hostile 500
"""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.images.sandbox import Quarantine
from stillroom.pipeline.images.verdict import Accepted, Rejected
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.storage.errors import DataError

from .images import LIARS
from .mutations import from_corpus, mutation
from .realdata import real_data
from .table import Row

MAX_PIXELS = 100_000_000
MOST_SECONDS, MOST_MB = 10.0, 2000
_BATCH = 32

Image = npt.NDArray[np.uint8]


def hostile_images(count: int, seed: int, corpus: Path | None) -> list[tuple[str, bytes]]:
    """Files whose headers lie, damaged ones that others found, and mutations, in turn: name and bytes of each."""
    sources = [
        ((name, make()) for name, make in LIARS.items()),
        (mutation(seed, number) for number in itertools.count()),
    ]
    if corpus is not None:
        sources.insert(1, (from_corpus(corpus, number) for number in itertools.count()))
    return list(itertools.islice(_in_turn(sources), count))


def measure(count: int, seed: int, corpus: Path | None = None) -> Row:
    """Judge so many images, one by one, and render what is accepted; `corpus` holds folders of files of others."""
    images = hostile_images(count, seed, corpus)
    wrong: list[str] = []
    accepted: list[tuple[str, Image, Accepted]] = []
    slowest, largest = (0.0, ""), 0
    quarantine = Quarantine()
    try:
        quarantine.examine([np.frombuffer(LIARS["orientation 9"](), np.uint8)], MAX_PIXELS)  # the process starts
        for name, data in images:
            image = np.frombuffer(data, np.uint8)
            started = time.perf_counter()
            (verdict,) = quarantine.examine([image], MAX_PIXELS)
            seconds = time.perf_counter() - started
            slowest, peak = max(slowest, (seconds, name)), _peak_mb(quarantine.pid)
            largest = max(largest, peak)
            if isinstance(verdict, Accepted):
                accepted.append((name, image, verdict))
            if seconds > MOST_SECONDS or peak > MOST_MB or (isinstance(verdict, Rejected) and not verdict.reason):
                wrong.append(f"{name}: {seconds:.1f} s, {peak} MB, {verdict}")
    finally:
        quarantine.close()
    wrong += _that_do_not_render(accepted) if accepted else ["none was accepted"]
    notes = (
        f"{count - len(accepted)} rejected with a reason, {len(accepted)} accepted and rendered; "
        f"slowest {slowest[0]:.1f} s ({slowest[1]}), {largest} MB at most"
    )
    return Row(
        "hostile images: headers that lie, damaged files, mutations of JPEG, PNG and WebP",
        "a verdict each; no crash, no hang over 10 s, under 2 GB",
        count - len(wrong),
        count,
        "; ".join([notes, *wrong[:5]]),
    )


def _that_do_not_render(accepted: Sequence[tuple[str, Image, Accepted]]) -> list[str]:
    """Rendered in batches, as the teacher does; a batch that fails, image by image."""
    failed = []
    recipe = Recipe.of(brightness=0.2)
    renderer = Renderer((64,), _BATCH, operations=recipe.acting)
    for start in range(0, len(accepted), _BATCH):
        batch = accepted[start : start + _BATCH]
        height, width = (np.array([getattr(item[2], side) for item in batch], np.int32) for side in ("height", "width"))
        views = draw_views(recipe, np.arange(len(batch), dtype=np.uint64), 0, height, width)
        request = Request([image for _, image, _ in batch], [views], lambda place, batch=batch: batch[place][0])
        try:
            for (pixels,) in renderer.stream(request.cut(height.astype(np.int64) * width, _BATCH)):
                assert pixels.shape[2:] == (64, 64, 3)
        except DataError as error:
            failed.append(str(error))
    return failed


def real_corpus() -> Path | None:
    """The damaged files among the real data, where a variable names that."""
    folder = real_data()
    return None if folder is None else folder / "hostile"


def _in_turn(sources: Sequence[Iterator[tuple[str, bytes]]]) -> Iterator[tuple[str, bytes]]:
    left = list(sources)
    while left:
        for source in list(left):
            found = next(source, None)
            if found is None:
                left.remove(source)
            else:
                yield found


def _peak_mb(pid: int | None) -> int:
    """Memory that a process had at most; 0 where it is gone."""
    if pid is None:
        return 0
    status = Path(f"/proc/{pid}/status").read_text()
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    print(measure(int(sys.argv[1]), 0, real_corpus()))
