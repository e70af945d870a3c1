"""Verify: is what is on disk what was written, and is it right?

Every object against the ledger, seeds against their derivation, and a random share of the views made again: rendered,
compared by digest, and shown to the teacher once more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..pipeline.config import Config
from ..pipeline.seeds import seeds_of, uid_of
from ..storage.cache import Cache
from ..storage.codecname import TRANSFORM
from ..storage.dataset import Dataset
from ..storage.errors import DamagedObjectError, StillroomError
from ..storage.fingerprint import canonical, digest
from ..storage.layout import block_task, teacher_folder
from ..storage.ledger import Ledger, Record
from ..storage.losses import FACTS, join_losses
from .findings import Failure, Finding
from .objectcheck import CHECK, check_objects, parts_of
from .places import holdings, parts, place_of
from .recheck import recheck_shard
from .stage import Advance, Stage, Task

TASK = "verified"
_SEEDS, _VIEWS, _CODEC = "seeds", "views", "codec"
_ROUNDING = 1e-3, 2e-5
"""By which share, and by how many nats, a mean in a record may pass its bound: both were added up in float32."""


def tasks(config: Config) -> Sequence[Task]:
    """The objects of each place in parts, the seeds, and each teacher's losses and data shards."""
    found = []
    for holding in holdings(config):
        parts = parts_of(holding.place)
        found += [Task(f"{CHECK}/{part}/{parts}/{holding.name}") for part in range(parts)]
    found.append(Task(_SEEDS))
    try:
        data = Dataset(config.data_place)
    except DamagedObjectError:
        return found  # the objects' check names what is damaged
    for section in config.teacher:
        found.append(Task(f"{_CODEC}/{section.name}"))
        found += [Task(f"{_VIEWS}/{section.name}/{shard}") for shard in range(len(data.sizes))]
    return found


def done(config: Config) -> Callable[[Task], bool]:
    """Whether exactly these records were verified before, in the same way."""
    try:
        record = Ledger(config.cache_place).get(TASK)
    except DamagedObjectError:
        record = None
    same = record is not None and record.fingerprint == _state(config)
    return lambda _: same


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """One part of the check."""
    kind, _, rest = task.name.partition("/")
    if kind == CHECK:
        part, parts, name = rest.split("/", 2)
        holding = next(holding for holding in holdings(config) if holding.name == name)
        finding = check_objects(holding, int(part), int(parts))
    elif kind == _SEEDS:
        finding = _guarded(_SEEDS, "seeds", lambda: _check_seeds(config))
    elif kind == _CODEC:
        finding = _guarded(_CODEC, f"teacher {rest}", lambda: _check_codec(config, rest))
    else:
        teacher, _, shard = rest.partition("/")
        finding = _guarded(
            _VIEWS, f"teacher {teacher}, data shard {shard}", lambda: _check_views(config, teacher, int(shard))
        )
    advance(task.units)
    return asdict(finding)


def conclude(config: Config, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Join what the tasks found; leave a record where all is well.

    Returns:
        "ok", "checks" with counts, "failures", "skipped", and "redo": place and task of what `repair` can mend.
    """
    findings = list(results.values())
    failures = [failure for finding in findings for failure in finding["failures"]]
    kl = [value for finding in findings for value in finding["kl"]]
    names = sorted({name for finding in findings for name in finding["checked"]})
    checks: dict[str, dict[str, Any]] = {
        name: {
            "checked": sum(finding["checked"].get(name, 0) for finding in findings),
            "failed": sum(failure["check"] == name for failure in failures),
        }
        for name in names
    }
    lost = {name: item for finding in findings for name, item in finding["lost"].items()}
    if lost:
        checks[_CODEC] |= {"teachers": lost}
    if kl:
        checks["teacher"] |= {"kl_mean": float(np.mean(kl)), "kl_max": float(np.max(kl))}
    outcome = {
        "ok": not failures,
        "checks": checks,
        "failures": failures,
        "skipped": sorted({reason for finding in findings for reason in finding["skipped"]}),
        "redo": sorted({tuple(failure["redo"]) for failure in failures if failure["redo"]}),
    }
    ledger = Ledger(config.cache_place)
    if failures:
        ledger.drop(TASK)
    else:
        ledger.put(Record(TASK, _state(config), {}, {"checks": checks}))
    return outcome


def _state(config: Config) -> str:
    """Digest of all records of data and cache, and of how they are verified."""
    places = {"cache": config.cache_place, **{part: place_of(config, part) for part in parts(config)}}
    records = {
        name: [[task, digest(place.read(Ledger(place).name(task)))] for task in Ledger(place).tasks() if task != TASK]
        for name, place in places.items()
    }
    how = {
        "verify": config.verify.model_dump(mode="json"),
        "teachers": [section.name for section in config.teacher],
        "views": config.views.count,
    }
    return digest(canonical({"records": records, **how}))


def _guarded(check: str, where: str, body: Callable[[], Finding]) -> Finding:
    """A check that stops at an error has failed there."""
    try:
        return body()
    except StillroomError as error:
        return Finding({check: 1}, [Failure(check, where, str(error))])


def _check_seeds(config: Config) -> Finding:
    """Derive every uid and seed again."""
    data, cache = Dataset(config.data_place), Cache(config.cache_place)
    finding = Finding({_SEEDS: 0})
    for shard in range(len(data.sizes)):
        index = data.index(shard)
        uids = np.array([uid_of(key) for key in index.key], np.uint64)
        wrong = (uids != index.uid) | (seeds_of(uids, cache.info.root_seed) != cache.seeds(shard))
        finding.checked[_SEEDS] += len(index)
        finding.failures += [
            Failure(_SEEDS, f"data shard {shard}, slot {slot}", f"the seed of {index.key[slot]!r} is not its own")
            for slot in np.flatnonzero(wrong)
        ]
    return finding


def _check_codec(config: Config, teacher: str) -> Finding:
    """Add up what the blocks say that their encoding lost; none may say more than its codec promised."""
    cache = Cache(config.cache_place)
    info = cache.teacher(teacher).info
    bound = info.transform["cache"]["max_kl"] if info.codec == TRANSFORM else None
    finding = Finding({_CODEC: 0})
    records = list(cache.ledger.records(f"{teacher_folder(teacher)}/blocks"))
    for record in records:
        lost = record.facts.get(FACTS)
        if lost is None:
            finding.skipped.append(f"blocks of teacher {teacher} say nothing of what their codec lost")
            continue
        finding.checked[_CODEC] += 1
        worst = max(lost["kl_mean"])
        if bound is not None and worst > bound * (1 + _ROUNDING[0]) + _ROUNDING[1]:
            finding.failures.append(
                Failure(
                    _CODEC,
                    record.task,
                    f"lost {worst:.4g} nats of KL · T² on average; at most {bound:g}",
                    ("cache", record.task),
                )
            )
    joined = join_losses(record.facts for record in records)
    if joined is not None:
        finding.lost = {teacher: joined}
    return finding


def _check_views(config: Config, teacher: str, shard: int) -> Finding:
    """Make a share of a data shard's views again."""
    cache = Cache(config.cache_place)
    finding = Finding({"digests": 0, "teacher": 0})
    blocks = config.views.count // config.views.views_per_block
    for block in range(blocks):
        if cache.ledger.get(block_task(teacher, shard, block)) is None:
            where = f"teacher {teacher}, data shard {shard}, block {block}"
            finding.failures.append(Failure(_VIEWS, where, "is missing; run `stillroom teacher`"))
    if finding.failures:
        finding.checked[_VIEWS] = blocks
        return finding
    checked = recheck_shard(config, cache, teacher, shard)
    finding.checked = {"digests": checked.rendered, "teacher": len(checked.kl)}
    finding.kl = checked.kl
    finding.skipped = checked.skipped
    finding.failures += checked.problems
    return finding


STAGE = Stage("verify", "checks", tasks, done, run, conclude)
