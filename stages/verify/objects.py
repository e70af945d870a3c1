"""Checking that every object which a record lists is there and is what was written, and what lies there unlisted."""

from collections.abc import Mapping, Sequence
from typing import Any

from stillroom.stages.run.places import RunLocation
from stillroom.stages.student.checkpoint import CHECKPOINT, read_checkpoint
from stillroom.storage.cache.layout import SEEDS_TASK
from stillroom.storage.errors import DamagedObjectError, MissingObjectError, StillroomError, UnreachableError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.ledger.sealed import SEALED_TASK, DamagedSealError
from stillroom.storage.ledger.snapshot import Snapshot, name_of
from stillroom.storage.objects.base import Place, temporary_of
from stillroom.storage.objects.urls import open_parent

from .findings import Failure, Finding

CHECK = "objects"
_RECORDS = 512
"""Of one part of the check: a part is a task, and a cache may have tens of thousands."""


def parts_of(place: Place) -> int:
    """In how many parts a place is checked."""
    try:
        return max(1, -(-sum(1 for _ in Ledger(place).tasks()) // _RECORDS))
    except DamagedSealError:
        return 1  # which the check of that part says


def check_objects(holding: RunLocation, part: int, parts: int) -> Finding:
    """Read every object that a part of a place's records lists, and compare.

    Args:
        holding: the place.
        part: which part, from 0.
        parts: of how many.
    """
    finding = Finding({CHECK: 0})
    ledger = Ledger(holding.place)
    try:
        snapshot = ledger.snapshot()
        tasks = list(snapshot.tasks())
    except DamagedSealError as error:
        where = f"{holding.name}: {ledger.name(SEALED_TASK)}"
        return Finding({CHECK: 1}, [Failure(CHECK, where, str(error), (holding.name, SEALED_TASK))])
    rewritten = [task for task in tasks if "/layout/" in task or task in (SEEDS_TASK, SEALED_TASK)]
    layouts = _records(snapshot, rewritten, holding, Finding())
    forms = _forms(layouts)
    found = False
    for task in tasks[part::parts]:
        for record in _records(snapshot, [task], holding, finding):
            for name in sorted(holding.required(task) - record.objects.keys()):
                message = f"is not listed by the record {ledger.name(task)}"
                finding.failures.append(Failure(CHECK, f"{holding.name}: {name}", message, (holding.name, task)))
            for name, written in record.objects.items():
                found = True
                finding.checked[CHECK] += 1
                problem = _compare(holding.place, name, forms.get(name, [written]))
                if problem:
                    where = f"{holding.name}: {name}"
                    message = f"{problem} (written by {task})"
                    finding.failures.append(Failure(CHECK, where, message, (holding.name, task)))
            if "source" in record.facts:
                finding.checked[CHECK] += 1
                _check_source(f"{holding.name}: {task}", record.facts["source"], finding)
    # A student in training and a page that is being written have no record yet.
    if not found and not finding.failures and part == 0 and holding.name in ("train", "eval", "cache"):
        finding.failures.append(Failure(CHECK, holding.name, f"{holding.place} has no records"))
    if part == 0:
        finding.failures += _checkpoint(holding)
        finding.skipped += _lying_about(holding, ledger)
    return finding


def _checkpoint(holding: RunLocation) -> list[Failure]:
    """A student's checkpoint has no record; it carries its own digest."""
    if CHECKPOINT not in holding.working:
        return []
    try:
        read_checkpoint(holding.place)
    except DamagedObjectError as error:
        return [Failure(CHECK, f"{holding.name}: {CHECKPOINT}", str(error))]
    return []


def _records(snapshot: Snapshot, tasks: Sequence[str], holding: RunLocation, finding: Finding) -> list[Record]:
    records = []
    for task in tasks:
        try:
            record = snapshot.get(task)
        except UnreachableError:
            raise
        except StillroomError as error:
            where = f"{holding.name}: {name_of(task)}"
            finding.failures.append(Failure(CHECK, where, str(error), (holding.name, task)))
            continue
        if record is not None:
            records.append(record)
    return records


def _forms(layouts: Sequence[Record]) -> dict[str, list[ObjectDigest]]:
    """Metadata may have any of the forms that a layout gives it: it is replaced in place as a cache grows."""
    forms: dict[str, list[ObjectDigest]] = {}
    for record in layouts:
        for name, written in record.objects.items():
            forms.setdefault(name, []).append(written)
    return forms


def _check_source(where: str, source: Mapping[str, Any], finding: Finding) -> None:
    """A tar that was indexed where it lies. To do its task again would index whatever is there now."""
    place, name = open_parent(source["url"])
    problem = _compare(place, name, [ObjectDigest(source["size"], source["digest"])])
    if problem:
        finding.failures.append(Failure(CHECK, where, f"{source['url']} {problem}; restore the file"))


def _compare(place: Place, name: str, allowed: Sequence[ObjectDigest]) -> str:
    """What is wrong with an object; empty where it has one of the forms allowed."""
    try:
        found = ObjectDigest.by_reading(place, name, max(item.size for item in allowed))
    except MissingObjectError:
        return "is missing"
    if found in allowed:
        return ""
    last = allowed[-1]
    return f"has {found.size} bytes, xxh3 {found.digest}; {last.size} bytes, xxh3 {last.digest} were written"


def _lying_about(holding: RunLocation, ledger: Ledger) -> list[str]:
    """A line about what no record lists, if there is anything."""
    names = list(holding.names())
    try:
        listed = frozenset(name for record in ledger.records() for name in record.objects)
    except UnreachableError:
        raise
    except StillroomError:
        return []  # a damaged record, which is a failure of its own, hides what it lists
    unlisted = sum(1 for _ in holding.unlisted(iter(names), listed))
    unlisted += sum(temporary_of(name) is not None for name in names)
    if not unlisted:
        return []
    return [
        f"{holding.name}: {unlisted} objects that no record lists, of tasks in progress or stopped; see stillroom gc"
    ]
