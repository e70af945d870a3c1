"""Checking a cache beyond its objects' digests: attributes and seeds against what they derive from, and every view's
arrays read as a student reads them. That finds what was changed together with its record.
"""

from dataclasses import replace

import numpy as np
import xxhash

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.rng.seeds import seeds_of, uid_of
from stillroom.stages.teacher.seeds import cache_info
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import SEEDS_TASK, block_task, canary_place
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.dataset.dataset import Dataset, ingest_task
from stillroom.storage.errors import StillroomError, UnreachableError

from .findings import Failure, Finding

SEEDS, ATTRIBUTES, LOGITS, CANARIES = "seeds", "attributes", "logits", "canaries"


def check_seeds(config: Config) -> Finding:
    """Derive the cache's attributes, and every uid and seed, again."""
    data, cache = Dataset(config.data_place), Cache(config.cache_place)
    redo = "cache", SEEDS_TASK
    finding = Finding({SEEDS: 0, ATTRIBUTES: 1})
    stored, derived = (
        cache.info.attributes(),
        replace(cache_info(config, data), features=cache.info.features).attributes(),
    )
    for field in sorted(derived.keys() - {"views"}):  # the fingerprint is compared field by field elsewhere
        if stored.get(field) != derived[field]:
            message = f"{field} is {stored.get(field)!r}; of this run and its data it must be {derived[field]!r}"
            finding.failures.append(Failure(ATTRIBUTES, "cache: zarr.json", message, redo))
    for shard in range(min(len(data.sizes), cache.layout.shards)):
        index = data.index(shard)
        uids = np.array([uid_of(key) for key in index.key], np.uint64)
        finding.checked[SEEDS] += len(index)
        try:
            seeds = cache.seeds(shard)
        except UnreachableError:
            raise
        except StillroomError as error:
            finding.failures.append(Failure(SEEDS, f"data shard {shard}", str(error), redo))
            continue
        if len(seeds) != len(index):
            continue  # the sizes among the attributes are wrong
        for wrong, what, again in (
            (uids != index.uid, "uid", ("train", ingest_task(data.description.numbers[shard]))),
            (seeds_of(uids, config.views.seed) != seeds, "seed", redo),
        ):
            finding.failures += [
                Failure(SEEDS, f"data shard {shard}, slot {slot}", f"the {what} of {key!r} is not its own", again)
                for slot, key in ((slot, index.key[slot]) for slot in np.flatnonzero(wrong))
            ]
    return finding


def check_block(cache: Cache, teacher: TeacherLogits, shard: int, block: int) -> Finding:
    """Read a block's logits and digests, and compare its canaries with their digests."""
    finding = Finding({LOGITS: 0, CANARIES: 0})
    per_block = cache.layout.views_per_block
    redo = "cache", block_task(teacher.name, shard, block)

    def failed(check: str, where: str, message: str) -> Finding:
        place = f"teacher {teacher.name}, data shard {shard}, {where}"
        finding.failures.append(Failure(check, place, message, redo))
        return finding

    for view in range(block * per_block, (block + 1) * per_block):
        try:
            logits = teacher.logits(shard, view)
            teacher.digests(shard, view)
        except UnreachableError:
            raise
        except StillroomError as error:
            return failed(LOGITS, f"view {view}", str(error))
        finding.checked[LOGITS] += len(logits)
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(wrong):
            failed(LOGITS, f"view {view}, slot {wrong[0]}", f"logits of {len(wrong)} slots are not finite")
    for number in range(len(teacher.info.canaries) if block == 0 else 0):
        if canary_place(cache.layout, number)[0] != shard:
            continue
        try:
            canary = teacher.canary(number)
            expected = int(teacher.digests(shard, canary.view)[canary.slot])
        except UnreachableError:
            raise
        except StillroomError as error:
            return failed(CANARIES, f"canary {number}", str(error))
        finding.checked[CANARIES] += 1
        found = xxhash.xxh3_64_intdigest(canary.pixels.tobytes()) & 0xFFFF
        if found != expected:
            where = f"view {canary.view}, slot {canary.slot}"
            failed(CANARIES, where, f"canary {number} has digest {found:04x}, {expected:04x} is in the cache")
    return finding
