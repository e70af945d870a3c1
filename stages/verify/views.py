"""Making cached views again: rendered and compared by digest, then classified and compared with the cached logits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.operation import Operation
from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.teacher import LoadedTeacher
from stillroom.pipeline.render.backend import Backend, renderer_fingerprint
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer, digests
from stillroom.pipeline.render.request import Request, sample_names
from stillroom.pipeline.rng.philox import philox4x32, split
from stillroom.pipeline.rng.seeds import CHECKS
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.build_cache import built_once
from stillroom.stages.run.resources import threads_of
from stillroom.stages.teacher.worker_cache import can_be_asked, loaded_teacher
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import block_task, canary_place
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.codecs.registry import divergence
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import picked
from stillroom.storage.writers.loss_summary import FACTS

from .findings import Failure

MAX_KL = {"float32": 1e-3, "bfloat16": 2e-2}
"""Nats by which a teacher may differ from its cached logits in one view, by its precision.

float16 logits near ±20 are off by up to 2⁻⁷, which is some 1e-5 nats; bfloat16 forward passes differ between batch
sizes and devices by about 1 % of a logit. Codecs that lose more are allowed more: see `bounds_of`.
"""
_BATCH = 128
_AT_ONCE = 512
"""Views that are checked together; with their partners, they are held rendered, and as float32."""


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


def teacher_at_hand(section: Teacher, classes: tuple[str, ...]) -> LoadedTeacher | None:
    """A teacher of the config; None where its weights are not at hand."""
    return loaded_teacher(section, classes) if can_be_asked(section) else None


def bound_of(config: Config, section: Teacher) -> float:
    """Nats by which a teacher may differ from its cached logits in one view."""
    return config.verify.max_kl or MAX_KL[section.precision]


@built_once
def _renderer(size: int, operations: tuple[Operation, ...], backend: Backend, threads: int) -> Renderer:
    return Renderer((size,), _BATCH, operations=operations, backend=backend, threads=threads)


def chosen_slots(seed: int, share: float, shard: int, view: int, slots: int) -> npt.NDArray[np.int64]:
    """Which slots of a view are checked: each with probability `share`, and one of the first view in any case."""
    words, _, _, _ = philox4x32((np.arange(slots), view, shard, CHECKS), split(seed))
    chosen = np.flatnonzero(words < share * 2.0**32)
    return chosen if len(chosen) or view or not share else np.array([int(np.argmin(words))])


def bounds_of(codec: str, facts: Mapping[str, Any], slack: float) -> dict[float, float]:
    """By temperature, 1 first: nats times T² by which the teacher may differ from any one row of a block.

    The square root of KL behaves as a distance where it is small: from the teacher now to the teacher then, `slack`,
    and from there to what was stored, at most the largest loss that the block's record states.

    Args:
        codec: of the cache.
        facts: of the block's record.
        slack: by which two runs of the teacher may differ.
    """
    lost = facts.get(FACTS)
    if kind_of(codec).lossless or lost is None:
        return {1.0: slack}
    worst = dict(zip(map(float, lost["temperatures"]), lost["kl_max"], strict=True))
    return {t: (worst[t] ** 0.5 + slack**0.5) ** 2 for t in sorted(worst, key=lambda t: (t != 1.0, t))}


def recheck_shard(config: Config, cache: Cache, name: str, shard: int) -> Checked:
    """Make a share of a data shard's views again.

    Raises:
        StoreError: something that is needed for it is damaged or missing.
    """
    section = next(item for item in config.teacher if item.name == name)
    data = Dataset(config.data_place)
    recipe = Recipe.from_data(cache.info.recipe)
    cached = cache.teacher(name)
    teacher = teacher_at_hand(section, classes_of(config, data, section))
    slack = bound_of(config, section)
    checked = Checked()
    backend: Backend = cache.info.views["renderer"]["backend"]
    if backend == "dali-gpu" and not torch.cuda.is_available():
        checked.skipped.append(
            f"views of teacher {name} were not made again: they are of dali-gpu, and there is no GPU"
        )
        return checked
    if teacher is None:
        what = f"weights {section.weights} are" if section.weights else "module is"
        checked.skipped.append(f"teacher {name} was not asked again: its {what} not here")
    index, seeds = data.index(shard), cache.seeds(shard)
    images = data.images(shard, index, config.render.encoded)
    # Rendered by another version, a view that differs says nothing about the cache.
    same_renderer = renderer_fingerprint(backend) == dict(cache.info.views["renderer"])

    def redo(view: int) -> tuple[str, str] | None:
        block = view // cache.layout.views_per_block
        return ("cache", block_task(name, shard, block)) if same_renderer else None

    numbers = range(len(cached.info.canaries))
    canaries = [cached.canary(number) for number in numbers if canary_place(cache.layout, number)[0] == shard]
    renderer = _renderer(cached.info.size, recipe.acting, backend, threads_of(config))
    for view in range(config.views.count):
        chosen = chosen_slots(config.verify.seed, config.verify.share, shard, view, len(index))
        mix = recipe.mixing.draw(seeds, view)
        partner = mix.partner
        kept = {canary.slot: canary for canary in canaries if canary.view == view} if same_renderer else {}
        drawn = draw_views(recipe, seeds, view, index.height, index.width)
        alone = np.setdiff1d(list(kept), np.union1d(chosen, partner[chosen]))
        for number, slots in enumerate(_at_once(chosen, recipe.mixing.pair_order(seeds, view))):
            rows = np.union1d(slots, partner[slots]).astype(np.int64)
            rows = rows if number else np.union1d(rows, alone).astype(np.int64)
            if not len(rows):
                continue
            names = sample_names([index.key[row] for row in rows], f"data shard {shard}")
            requests = Request(picked(images, rows), [drawn.take(rows)], names).cut(index.pixels[rows], _BATCH)
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
                now = teacher(to_images(pixels, own, other if recipe.mixup else None, mix.take(slots)))
                record = cache.ledger.get(block_task(name, shard, view // config.views.views_per_block))
                bounds = bounds_of(cached.info.codec, record.facts if record is not None else {}, slack)
                kl = divergence(now.numpy(), cached.logits(shard, view)[slots], list(bounds))
                checked.kl += kl[0].tolist()
                for slot, found in zip(slots, kl.T.tolist(), strict=True):
                    message = too_far(bounds, found)
                    if message:
                        where = f"teacher {name}, data shard {shard}, view {view}, slot {slot}"
                        text = f"{index.key[slot]!r}: {message}"
                        checked.problems.append(Failure("teacher", where, text, redo(view)))
    return checked


def _at_once(slots: npt.NDArray[np.int64], order: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.int64]]:
    """Slots in parts that are made again together: of bounded size, and with no pair torn. One part at least."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ordered = slots[np.argsort(place[slots])]
    start = 0
    while start < len(ordered) or not start:
        stop = start + _AT_ONCE
        if 0 < stop < len(ordered) and place[ordered[stop - 1]] // 2 == place[ordered[stop]] // 2:
            stop += 1
        yield np.sort(ordered[start:stop])
        start = stop


def too_far(bounds: Mapping[float, float], found: Sequence[float]) -> str:
    """What is wrong with a row, by the KL · T² found at each temperature; empty where it is within all bounds."""
    for (temperature, bound), nats in zip(bounds.items(), found, strict=True):
        if not nats <= bound:
            at = f" of KL · T² at temperature {temperature:g}" if len(bounds) > 1 else ""
            return f"the teacher is {nats:.3g} nats{at} from its cached logits; at most {bound:.3g}"
    return ""
