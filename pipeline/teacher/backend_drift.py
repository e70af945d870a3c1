"""Drift: how far the views that one backend renders are from those that the cache was made with, on its canaries.

Backends decode and resize with other roundings, so a student that renders on another one than the teacher sees other
pixels. This says by how much, in pixels and in what the teacher makes of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.models.losses import kl_divergence
from stillroom.pipeline.render.backend import Backend
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request, sample_names
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import Canary, TeacherLogits
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError

_BATCH = 64


@dataclass(frozen=True)
class Drift:
    """By how much one backend's views differ from another's.

    Attributes:
        cached, here: the backend of the cache, and that of the views it was compared with.
        views: how many were compared, before mixing.
        psnr: decibels, of all their bytes together; None where all are equal.
        furthest: the largest difference of two bytes, of 255.
        equal: share of the bytes that are equal.
        kl_mean, kl_max: KL(teacher on the cached view ‖ teacher on the other) in nats; None without the teacher.
    """

    cached: str
    here: str
    views: int
    psnr: float | None
    furthest: int
    equal: float
    kl_mean: float | None
    kl_max: float | None

    def facts(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)

    @property
    def note(self) -> str:
        """For people."""
        pixels = "no byte differs" if self.psnr is None else f"PSNR {self.psnr:.1f} dB, {self.equal:.2%} bytes equal"
        teacher = (
            "what the teacher makes of that is not known, its weights are not here"
            if self.kl_mean is None
            else f"the teacher is {self.kl_mean:.3g} nats apart on average, {self.kl_max:.3g} at most"
        )
        return (
            f"views are rendered by {self.here}, the cache was made by {self.cached}, and nothing is proved; on "
            f"{self.views} canaries: {pixels}, furthest {self.furthest} of 255; {teacher}"
        )


def measure_drift(
    cache: Cache,
    data: Dataset,
    teacher: TeacherLogits,
    backend: Backend,
    threads: int,
    answer: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Drift:
    """Render a teacher's canaries on a backend and compare them with those that are kept.

    Args:
        cache, data, teacher: whose canaries.
        backend, threads: how they are rendered.
        answer: the teacher itself: from float32 [n, 3, size, size] to logits, float32 [n, class].

    Raises:
        ConfigError: there are no canaries.
        StoreError: data, seeds or canaries are not what was written.
    """
    canaries = teacher.canaries()
    if not canaries:
        raise ConfigError(
            f"teacher {teacher.name!r} has no canaries, so nobody can say how far another backend's views are from its "
            "own; make the cache with cache.canaries = 16, or leave render.allow_drift out"
        )
    there = torch.from_numpy(np.stack([canary.pixels for canary in canaries]))
    here = _rendered(cache, data, canaries, teacher.info.size, backend, threads)
    far = (here.int() - there.int()).abs()
    error = float(far.double().square().mean())
    kl = kl_divergence(answer(to_images(there)).cpu(), answer(to_images(here)).cpu()) if answer is not None else None
    return Drift(
        cached=cache.info.views["renderer"]["backend"],
        here=backend,
        views=len(canaries),
        psnr=round(10 * math.log10(255.0**2 / error), 3) if error else None,
        furthest=int(far.max()),
        equal=float((far == 0).double().mean()),
        kl_mean=None if kl is None else float(kl.mean().clamp_min(0)),
        kl_max=None if kl is None else float(kl.max().clamp_min(0)),
    )


def _rendered(
    cache: Cache, data: Dataset, canaries: Sequence[Canary], size: int, backend: Backend, threads: int
) -> torch.Tensor:
    """The same views by a backend: uint8 [n, size, size, 3] on the CPU."""
    recipe = Recipe.from_data(cache.info.recipe)
    renderer = Renderer((size,), _BATCH, operations=recipe.acting, backend=backend, threads=threads)
    found: list[npt.NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(canaries)
    for shard in sorted({canary.shard for canary in canaries}):
        index, seeds = data.index(shard), cache.seeds(shard)
        images = data.images(shard, index)
        for view in sorted({canary.view for canary in canaries if canary.shard == shard}):
            numbers = [n for n, canary in enumerate(canaries) if (canary.shard, canary.view) == (shard, view)]
            slots = np.array([canaries[number].slot for number in numbers], np.int64)
            drawn = draw_views(recipe, seeds, view, index.height, index.width).take(slots)
            names = sample_names([index.key[slot] for slot in slots], f"data shard {shard}")
            request = Request([images[slot] for slot in slots], [drawn], names)
            parts = renderer.stream(request.cut(index.pixels[slots], _BATCH))
            pixels = torch.cat([part[0].cpu() for (part,) in parts]).numpy()
            for number, picture in zip(numbers, pixels, strict=True):
                found[number] = picture
    return torch.from_numpy(np.stack(found))
