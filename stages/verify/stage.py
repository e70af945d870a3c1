"""Verify: is what is on disk what was written, and is it right?

Every object against the ledger, and the ledger against the list of tasks; images against their index, seeds against
their derivation, all arrays read as a student reads them; and a random share of the views made again: rendered,
compared by digest, and shown to the teacher once more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.artifacts import VERIFIED_TASK
from stillroom.stages.run.places import holdings, place_of
from stillroom.stages.run.places import parts as parts_named
from stillroom.stages.run.stage import Advance, Results, Stage, Task
from stillroom.stages.teacher.codec_loss_text import in_words
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import block_task, plain_folder, teacher_folder
from stillroom.storage.cache.sealing import REPLACED
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DamagedObjectError, MissingObjectError, StillroomError, UnreachableError
from stillroom.storage.ledger.fingerprint import canonical, digest, stated
from stillroom.storage.ledger.ledger import Ledger, Record
from stillroom.storage.ledger.sealed import SEALED_TASK, DamagedSealError
from stillroom.storage.objects.base import Place
from stillroom.storage.writers.loss_summary import FACTS, join_losses

from .cache import SEEDS, check_block, check_seeds
from .dataset import CHECK as DATA
from .dataset import check_data_shard, check_description
from .evaluation import CHECK as EVALUATION
from .evaluation import recheck_evaluation
from .findings import Failure, Finding
from .objects import CHECK, check_objects, parts_of
from .plain_views import CHECK as PLAIN
from .plain_views import recheck_plain
from .root_causes import to_redo
from .tasks import CHECK as TASKS
from .tasks import check_tasks
from .views import recheck_shard

TASK = VERIFIED_TASK
_VIEWS, _CODEC = "views", "codec"
_ROUNDING = 1e-3, 2e-5
"""By which share, and by how many nats, a mean in a record may pass its bound: both were added up in float32."""


def tasks(config: Config) -> Sequence[Task]:
    """The objects of each place in parts, the list of tasks, data shards, seeds, each teacher's losses and views."""
    found = []
    for holding in holdings(config):
        parts = parts_of(holding.place)
        found += [Task(f"{CHECK}/{part}/{parts}/{holding.name}") for part in range(parts)]
    found.append(Task(TASKS))
    shards = {part: _shards(config, part) for part in parts_named(config)}
    for part, count in shards.items():
        found += [Task(f"{DATA}/{part}/{shard}") for shard in range(count)]
    found.append(Task(SEEDS))
    for section in config.teacher:
        found.append(Task(f"{_CODEC}/{section.name}"))
        found += [Task(f"{_VIEWS}/{section.name}/{shard}") for shard in range(shards["train"])]
        if config.data.evaluates:
            found.append(Task(f"{EVALUATION}/{section.name}"))
        if config.cache.plain or _has_plain(config, section.name):
            found += [Task(f"{PLAIN}/{section.name}/{shard}") for shard in range(shards["train"])]
    return found


def _has_plain(config: Config, teacher: str) -> bool:
    try:
        return any(Ledger(config.cache_place).tasks(plain_folder(teacher)))
    except DamagedSealError:
        return False  # which another check says


def _shards(config: Config, part: str) -> int:
    """Data shards of a part; none where its description is damaged or gone, which other checks say.

    Raises:
        MissingObjectError: nothing is ingested for training.
    """
    try:
        return len(Dataset(place_of(config, part)).sizes)
    except DamagedObjectError:
        return 0
    except MissingObjectError:
        if part == "train":
            raise
        return 0


def done(config: Config) -> Callable[[Task], bool]:
    """Whether exactly these records were verified before, in the same way."""
    try:
        record = Ledger(config.cache_place).get(TASK)
    except DamagedObjectError:
        record = None
    try:
        same = record is not None and record.fingerprint == _state(config)
    except DamagedSealError:
        same = False
    return lambda _: same


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """One part of the check."""
    kind, _, rest = task.name.partition("/")
    if kind == CHECK:
        part, parts, name = rest.split("/", 2)
        holding = next(holding for holding in holdings(config) if holding.name == name)
        finding = check_objects(holding, int(part), int(parts))
    elif kind == TASKS:
        finding = check_tasks(config)
    elif kind == DATA:
        part, _, shard = rest.partition("/")
        finding = _guarded(DATA, f"{part}, data shard {shard}", lambda: _check_data(config, part, int(shard)))
    elif kind == SEEDS:
        finding = _guarded(SEEDS, "seeds", lambda: check_seeds(config))
    elif kind == _CODEC:
        finding = _guarded(_CODEC, f"teacher {rest}", lambda: _check_codec(config, rest))
    elif kind == EVALUATION:
        finding = _guarded(EVALUATION, f"teacher {rest}", lambda: recheck_evaluation(config, rest))
    else:
        teacher, _, shard = rest.partition("/")
        check, body = (PLAIN, recheck_plain) if kind == PLAIN else (_VIEWS, _check_views)
        finding = _guarded(check, f"teacher {teacher}, data shard {shard}", lambda: body(config, teacher, int(shard)))
    advance(task.units)
    return asdict(finding)


def conclude(config: Config, results: Mapping[str, Mapping[str, Any]], whole: bool = True) -> dict[str, Any]:
    """Join what the tasks found; leave a record where all is well, and where that is all there is.

    Returns:
        "ok", "whole" (false for a job that sees its share alone), "checks" with counts, "failures", "skipped", and
        "redo": place and task of what `repair` can mend.
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
        "whole": whole,
        "checks": checks,
        "failures": failures,
        "skipped": sorted({reason for finding in findings for reason in finding["skipped"]}),
        "redo": to_redo(failures),
    }
    ledger = Ledger(config.cache_place)
    if failures:
        ledger.drop(TASK)
    elif whole:
        ledger.put(Record(TASK, _state(config), {}, {"checks": checks}))
    return outcome


def _state(config: Config) -> str:
    """Digest of all records of data and cache, and of how they are verified."""
    places = {"cache": config.cache_place, **{part: place_of(config, part) for part in parts_named(config)}}
    records = {name: list(_digests(place)) for name, place in places.items()}
    how = {
        "verify": config.verify.model_dump(mode="json"),
        "teachers": [section.name for section in config.teacher],
        "views": config.views.count,
        "plain": config.data.eval_crop if config.cache.plain else None,
    }
    return digest(canonical({"records": records, **stated(how, {"plain": None})}))


def _digests(place: Place) -> Iterator[list[str]]:
    """Each task with the digest of its record: the same before the ledger was sealed and since."""
    snapshot = Ledger(place).snapshot()
    replaced = snapshot.sealed.record.facts.get(REPLACED, {}) if snapshot.sealed is not None else {}
    for task in snapshot.tasks():
        data = snapshot.raw(task)
        if data is not None and task not in (TASK, SEALED_TASK):
            found = digest(data)
            yield [task, replaced.get(found, found)]


def _guarded(check: str, where: str, body: Callable[[], Finding]) -> Finding:
    """A check that stops at an error has failed there."""
    try:
        return body()
    except UnreachableError:
        raise
    except StillroomError as error:
        return Finding({check: 1}, [Failure(check, where, str(error))])


def _check_data(config: Config, part: str, shard: int) -> Finding:
    """A data shard; the first one stands for the whole, too."""
    finding = check_data_shard(config, part, shard)
    return finding if shard else finding.joined(check_description(config, part))


def _check_codec(config: Config, teacher: str) -> Finding:
    """Add up what blocks and plain views say that their encoding lost; none may say more than its codec promised."""
    cache = Cache(config.cache_place)
    info = cache.teacher(teacher).info
    bound = info.transform["cache"]["max_kl"] if kind_of(info.codec).fitted else None
    finding = Finding({_CODEC: 0})
    blocks = list(cache.ledger.records(f"{teacher_folder(teacher)}/blocks"))
    plain = [record for record in cache.ledger.records(plain_folder(teacher)) if FACTS in record.facts]
    for record in [*blocks, *plain]:
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
    for name, records in ((teacher, blocks), (f"{teacher}, plain views", plain)):
        joined = join_losses(record.facts for record in records)
        if joined is not None:
            finding.lost[name] = joined
    return finding


def _check_views(config: Config, teacher: str, shard: int) -> Finding:
    """Read a data shard's views, and make a share of them again."""
    cache = Cache(config.cache_place)
    cached = cache.teacher(teacher)
    finding = Finding({"digests": 0, "teacher": 0})
    for block in range(config.views.count // config.views.views_per_block):
        if cache.ledger.has(block_task(teacher, shard, block)):
            finding = finding.joined(check_block(cache, cached, shard, block))
        else:
            where = f"teacher {teacher}, data shard {shard}, block {block}"
            missing = Failure(_VIEWS, where, "is missing; run `stillroom teacher`")
            finding = finding.joined(Finding({_VIEWS: 1}, [missing]))
    if finding.failures:
        return finding
    checked = recheck_shard(config, cache, teacher, shard)
    found = {"digests": checked.rendered, "teacher": len(checked.kl)}
    return finding.joined(Finding(found, checked.problems, checked.skipped, kl=checked.kl))


def details(results: Results, concluded: Mapping[str, Any] | None) -> Sequence[str]:  # noqa: ARG001
    """What was checked, what the codec lost, and what could not be checked."""
    if concluded is None:
        return ()
    lines = [f"{name}: {_count(check)}" for name, check in concluded["checks"].items()]
    lost = concluded["checks"].get(_CODEC, {}).get("teachers", {})
    return [*lines, *(f"{name}: {in_words(item)}" for name, item in lost.items()), *concluded["skipped"]]


def _count(check: Mapping[str, Any]) -> str:
    text = f"{check['checked']:,} checked, {check['failed']} failed"
    if "kl_mean" in check:
        text += f", KL to cache mean {check['kl_mean']:.2g}, max {check['kl_max']:.2g} nats"
    return text


STAGE = Stage("verify", "checks", tasks, done, run, conclude, _state, asks_teacher=True, details=details)
