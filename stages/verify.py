"""Verify: is what is on disk what was written, and is it right?

Every object against the ledger, seeds against their derivation, and a random share of the views made again: rendered,
compared by digest, and shown to the teacher once more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..pipeline.config import Config
from ..pipeline.seeds import seeds_of, uid_of
from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.errors import MissingObjectError, StillroomError
from ..storage.fingerprint import canonical, digest
from ..storage.layout import block_task
from ..storage.ledger import Ledger, Record, Written
from ..storage.place import Place
from .ingest import parts, place_of
from .recheck import recheck_shard
from .stage import Advance, Stage, Task

TASK = "verified"
_OBJECTS, _SEEDS, _VIEWS = "objects", "seeds", "views"


@dataclass(frozen=True)
class Failure:
    """Something that is wrong.

    Attributes:
        check: which check found it.
        where: the object, or the teacher, data shard, view and slot.
        message: what is wrong.
    """

    check: str
    where: str
    message: str


@dataclass
class Finding:
    """What one task of the check found.

    Attributes:
        checked: by check, how many things were looked at.
        failures: what was wrong.
        skipped: what could not be checked, and why.
        kl: nats between the cached logits and the teacher's now, one for each view that was classified again.
    """

    checked: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)


def tasks(config: Config) -> Sequence[Task]:
    """The objects of each place, the seeds, and each teacher's data shards."""
    data = Dataset(config.data_place)
    found = [Task(f"{_OBJECTS}/{name}") for name in _places(config)]
    found.append(Task(_SEEDS))
    for section in config.teacher:
        found += [Task(f"{_VIEWS}/{section.name}/{shard}") for shard in range(len(data.sizes))]
    return found


def done(config: Config) -> Callable[[Task], bool]:
    """Whether exactly these records were verified before, in the same way."""
    record = Ledger(config.cache_place).get(TASK)
    same = record is not None and record.fingerprint == _state(config)
    return lambda _: same


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """One part of the check."""
    kind, _, rest = task.name.partition("/")
    if kind == _OBJECTS:
        finding = _check_objects(rest, _places(config)[rest])
    elif kind == _SEEDS:
        finding = _guarded(_SEEDS, "seeds", lambda: _check_seeds(config))
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
        "ok", "checks" with counts, "failures", "skipped".
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
    if kl:
        checks["teacher"] |= {"kl_mean": float(np.mean(kl)), "kl_max": float(np.max(kl))}
    outcome = {
        "ok": not failures,
        "checks": checks,
        "failures": failures,
        "skipped": sorted({reason for finding in findings for reason in finding["skipped"]}),
    }
    ledger = Ledger(config.cache_place)
    if failures:
        ledger.drop(TASK)
    else:
        ledger.put(Record(TASK, _state(config), {}, {"checks": checks}))
    return outcome


def _places(config: Config) -> dict[str, Place]:
    return {"cache": config.cache_place, **{part: place_of(config, part) for part in parts(config)}}


def _state(config: Config) -> str:
    """Digest of all records and of how they are verified."""
    records = {
        name: [[task, digest(place.read(Ledger(place).name(task)))] for task in Ledger(place).tasks() if task != TASK]
        for name, place in _places(config).items()
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


def _check_objects(name: str, place: Place) -> Finding:
    """Read every object that a record lists. Metadata may have any of the forms that a record gives it."""
    finding = Finding({_OBJECTS: 0})
    ledger = Ledger(place)
    forms: dict[str, dict[str, Written]] = {}
    for task in ledger.tasks():
        try:
            record = ledger.get(task)
        except StillroomError as error:
            finding.failures.append(Failure(_OBJECTS, f"{name}: {ledger.name(task)}", str(error)))
            continue
        for item, expected in record.objects.items() if record is not None else ():
            forms.setdefault(item, {})[task] = expected
    for item, by_task in forms.items():
        finding.checked[_OBJECTS] += 1
        problem = _compare(place, item, list(by_task.values()))
        if problem:
            tasks = ", ".join(by_task)
            finding.failures.append(Failure(_OBJECTS, f"{name}: {item}", f"{problem} (written by {tasks})"))
    if not finding.checked[_OBJECTS]:
        finding.failures.append(Failure(_OBJECTS, name, f"{place} has no records"))
    return finding


def _compare(place: Place, name: str, allowed: Sequence[Written]) -> str:
    """What is wrong with an object; empty where it has one of the forms allowed."""
    try:
        found = Written.of(place.read(name))
    except MissingObjectError:
        return "is missing"
    if found in allowed:
        return ""
    last = allowed[-1]
    return f"has {found.size} bytes, xxh3 {found.digest}; {last.size} bytes, xxh3 {last.digest} were written"


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
    finding.failures += [Failure(*problem) for problem in checked.problems]
    return finding


STAGE = Stage("verify", "checks", tasks, done, run, conclude)
