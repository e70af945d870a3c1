"""Caches at the level of storage: logits are pure functions of data shard, view and slot; no images, no teacher."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.base import Place
from stillroom.storage.objects.local import LocalPlace
from stillroom.storage.writers import block as blockwriter
from stillroom.storage.writers.teacher import TeacherWriter

SIZES, BLOCK, CLASSES, SIZE = (5, 3, 4), 2, 6, 2
CANARIES = (1, 0, 2)

Logits = npt.NDArray[np.float32]


def info(seed: int = 7) -> CacheInfo:
    views = {"data": "d", "views": {"views_per_block": BLOCK}, "views.seed": str(seed), "renderer": {"backend": "b"}}
    return CacheInfo({"flip": True}, seed, views, SIZES, BLOCK)


def seeds_of(shard: int, seed: int = 7) -> npt.NDArray[np.uint64]:
    return np.random.default_rng([seed, shard]).integers(0, 2**64, SIZES[shard], np.uint64)


def logits_of(shard: int, view: int, teacher: str = "t", seed: int = 7) -> Logits:
    """float32 [slot, class]; float16 holds them exactly."""
    rng = np.random.default_rng([seed, shard, view, *teacher.encode()])
    return rng.normal(size=(SIZES[shard], CLASSES)).astype(np.float16).astype(np.float32)


def digests_of(shard: int, view: int, teacher: str = "t", seed: int = 7) -> npt.NDArray[np.uint16]:
    rng = np.random.default_rng([1, seed, shard, view, *teacher.encode()])
    return rng.integers(0, 2**16, SIZES[shard], np.uint16)


def canary_of(number: int, teacher: str = "t") -> npt.NDArray[np.uint8]:
    return np.full((SIZE, SIZE, 3), (16 * number + len(teacher)) % 256, np.uint8)


def writer(
    place: Place, teacher: str = "t", views: int = 4, codec: str = "float32", seed: int = 7, weights: str = "w"
) -> TeacherWriter:
    about = TeacherInfo({"model": "m", "weights": weights}, CLASSES, SIZE, codec, CANARIES)
    return TeacherWriter(Ledger(place), info(seed).layout, teacher, about, info(seed).views, views)


def write_block(its: TeacherWriter, shard: int, block: int, seed: int = 7, logits: Logits | None = None) -> None:
    views = range(block * BLOCK, (block + 1) * BLOCK)
    if logits is None:
        logits = np.stack([logits_of(shard, view, its.name, seed) for view in views])
    digests = np.stack([digests_of(shard, view, its.name, seed) for view in views])
    canaries = {number: canary_of(number, its.name) for number, _, _ in its.canaries_of(shard, block)}
    blockwriter.write_block(its, shard, block, logits, digests, canaries, {})


def create(place: Place, seed: int = 7) -> None:
    create_cache(place, info(seed), [seeds_of(shard, seed) for shard in range(len(SIZES))])


def whole(folder: Path, codec: str = "float32", seed: int = 7, views: int = 4, weights: str = "w") -> LocalPlace:
    """A finished cache with one teacher, "t"."""
    place = LocalPlace(folder)
    create(place, seed)
    its = writer(place, views=views, codec=codec, seed=seed, weights=weights)
    its.lay_out()
    for block in range(views // BLOCK):
        for shard in range(len(SIZES)):
            write_block(its, shard, block, seed)
    return place


def read_all(place: Place, views: int = 4) -> dict[tuple[int, int], Logits]:
    """Everything that a student reads, and the logits of it."""
    cache = Cache(place)
    teacher = cache.teacher("t")
    found = {}
    for shard in range(len(SIZES)):
        cache.seeds(shard)
        for view in range(views):
            found[shard, view] = teacher.logits(shard, view)
            teacher.digests(shard, view)
    return found
