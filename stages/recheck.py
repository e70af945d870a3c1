"""Making cached views again: rendered and compared by digest, then classified and compared with the cached logits."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..pipeline.config import Config
from ..pipeline.losses import kl_divergence
from ..pipeline.mix import to_images
from ..pipeline.philox import philox4x32, split
from ..pipeline.recipe import Recipe, draw_partners, draw_views
from ..pipeline.render import Backend, Renderer, Request, digests, renderer_fingerprint
from ..pipeline.seeds import CHECKS
from ..pipeline.settings import Teacher
from ..pipeline.teach import LoadedTeacher, load_teacher
from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.layout import block_task, canary_place
from .findings import Failure
from .machine import threads_of

MAX_KL = {"float32": 1e-3, "bfloat16": 2e-2}
"""Nats by which a teacher may differ from its cached logits in one view, by its precision.

float16 logits near ±20 are off by up to 2⁻⁷, which is some 1e-5 nats; bfloat16 forward passes differ between batch
sizes and devices by about 1 % of a logit.
"""
_BATCH = 128


@dataclass
class Checked:
    """What came of checking some views.

    Attributes:
        rendered: views that were rendered again.
        kl: nats of each view that was classified again.
        problems: what was wrong.
        skipped: what could not be checked, and why.
    """

    rendered: int = 0
    kl: list[float] = field(default_factory=list)
    problems: list[Failure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@lru_cache(maxsize=2)
def loaded_teacher(section: Teacher, classes: tuple[str, ...]) -> LoadedTeacher | None:
    """Built once per worker process; None where its weights are not at hand."""
    return load_teacher(section, classes) if Path(section.weights).is_file() else None


def bound_of(config: Config, section: Teacher) -> float:
    """Nats by which a teacher may differ from its cached logits in one view."""
    return config.verify.max_kl or MAX_KL[section.precision]


@lru_cache(maxsize=1)
def _renderer(size: int, colour: bool, backend: Backend, threads: int) -> Renderer:
    """Built once per worker process."""
    return Renderer((size,), _BATCH, colour=colour, backend=backend, threads=threads)


def chosen_slots(seed: int, share: float, shard: int, view: int, slots: int) -> npt.NDArray[np.int64]:
    """Which slots of a view are checked: each with probability `share`, and one of the first view in any case."""
    words, _, _, _ = philox4x32((np.arange(slots), view, shard, CHECKS), split(seed))
    chosen = np.flatnonzero(words < share * 2.0**32)
    return chosen if len(chosen) or view or not share else np.array([int(np.argmin(words))])


def recheck_shard(config: Config, cache: Cache, name: str, shard: int) -> Checked:
    """Make a share of a data shard's views again.

    Raises:
        StoreError: something that is needed for it is damaged or missing.
    """
    section = next(item for item in config.teacher if item.name == name)
    data = Dataset(config.data_place)
    recipe = Recipe.from_data(dict(cache.info.recipe))
    cached = cache.teacher(name)
    teacher = loaded_teacher(section, data.classes)
    bound = bound_of(config, section)
    checked = Checked()
    backend: Backend = cache.info.views["renderer"]["backend"]
    if backend == "dali-gpu" and not torch.cuda.is_available():
        checked.skipped.append(
            f"views of teacher {name} were not made again: they are of dali-gpu, and there is no GPU"
        )
        return checked
    if teacher is None:
        checked.skipped.append(f"teacher {name} was not asked again: its weights {section.weights} are not here")
    index, seeds = data.index(shard), cache.seeds(shard)
    images = data.images(shard, index)
    # Rendered by another version, a view that differs says nothing about the cache.
    same_renderer = renderer_fingerprint(backend) == dict(cache.info.views["renderer"])

    def redo(view: int) -> tuple[str, str] | None:
        block = view // cache.layout.views_per_block
        return ("cache", block_task(name, shard, block)) if same_renderer else None

    numbers = range(len(cached.info.canaries))
    canaries = [cached.canary(number) for number in numbers if canary_place(cache.layout, number)[0] == shard]
    renderer = _renderer(cached.info.size, recipe.colour, backend, threads_of(config))
    for view in range(config.views.count):
        slots = chosen_slots(config.verify.seed, config.verify.share, shard, view, len(index))
        partner, share = draw_partners(recipe, seeds, view)
        kept = {canary.slot: canary for canary in canaries if canary.view == view} if same_renderer else {}
        rows = np.union1d(np.union1d(slots, partner[slots]), list(kept)).astype(np.int64)
        if not len(rows):
            continue
        drawn = draw_views(recipe, seeds, view, index.height, index.width)
        requests = Request([images[row] for row in rows], [drawn.take(rows)]).cut(index.pixels[rows], _BATCH)
        pixels = torch.cat([rendered[0] for (rendered,) in renderer.stream(requests)])
        expected = cached.digests(shard, view)[rows]
        checked.rendered += len(rows)
        for row, found, there in zip(rows, digests(pixels), expected, strict=True):
            if found != there:
                where = f"teacher {name}, data shard {shard}, view {view}, slot {row}"
                message = f"the view of {index.key[row]!r} has digest {found:04x}, {there:04x} is in the cache"
                checked.problems.append(Failure("digests", where, message, redo(view)))
        for row, now_pixels in zip(rows, pixels.cpu().numpy(), strict=True):
            if row in kept and not np.array_equal(now_pixels, kept[row].pixels):
                where = f"teacher {name}, data shard {shard}, view {view}, slot {row}"
                message = f"the view of {index.key[row]!r} that is kept whole is not the view that is rendered now"
                checked.problems.append(Failure("canaries", where, message, redo(view)))
        if teacher is not None and len(slots):
            own, other = np.searchsorted(rows, slots), np.searchsorted(rows, partner[slots])
            now = teacher(to_images(pixels, own, other if recipe.mixup else None, share[slots]))
            before = torch.from_numpy(cached.logits(shard, view)[slots])
            for slot, nats in zip(slots, kl_divergence(now, before).clamp_min(0).tolist(), strict=True):
                checked.kl.append(nats)
                if not nats <= bound:
                    where = f"teacher {name}, data shard {shard}, view {view}, slot {slot}"
                    message = (
                        f"{index.key[slot]!r}: the teacher is {nats:.3g} nats from its cached logits; at most {bound:g}"
                    )
                    checked.problems.append(Failure("teacher", where, message, redo(view)))
    return checked
