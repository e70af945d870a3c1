"""Report: one HTML file that shows what a run's cache holds and costs, its views, and how the students did.

Made again only where something that it says has changed. How it looks is `page`'s work.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.figure_lines import figure_lines
from stillroom.stages.run.places import REPORT, REPORT_TASK, student_places
from stillroom.stages.run.stage import Advance, RecordLocation, Results, Stage, Task
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.ledger.fingerprint import canonical, digest
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.base import Place

from .contact_sheet import contact_sheet
from .facts import cache_of, data_facts, drawn_views, fingerprints, teacher_facts, verified
from .page import Facts, page
from .students import progress_of, student_facts

VERSION = 2
"""Of the page; any change to what it shows raises it."""


def tasks(config: Config) -> Sequence[Task]:  # noqa: ARG001
    """The page."""
    return [Task(REPORT_TASK)]


def done(config: Config) -> Callable[[Task], bool]:
    """Whether there is a page that says what the records say now."""
    record = Ledger(config.run_place).get(REPORT_TASK)
    same = (
        record is not None
        and REPORT in record.objects
        and record.objects[REPORT].matches(config.run_place, REPORT)
        and record.fingerprint == _state(config)
    )
    return lambda _: same


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Write the page, and last its record.

    Raises:
        MissingObjectError: nothing is ingested yet.
        StoreError: what is to be shown is not what its record says.
    """
    state = _state(config)
    written = page(config, _facts(config)).encode()
    ledger = Ledger(config.run_place)
    ledger.drop(REPORT_TASK)  # it would be wrong about the new page, and `verify` would say so if we were killed here
    config.run_place.write(REPORT, written)
    ledger.put(Record(REPORT_TASK, state, {REPORT: ObjectDigest.of(written)}))
    advance(task.units)
    return {"path": f"{config.run_place}/{REPORT}"}


def _facts(config: Config) -> Facts:
    data = Dataset(config.data_place)
    cache = cache_of(config, data)
    names = cache.teachers if cache is not None else ()
    return Facts(
        data=data_facts(config, data),
        teachers=[teacher_facts(config, cache, name) for name in names if cache is not None],
        verified=verified(config, cache) if cache is not None else None,
        sheets={name: contact_sheet(config, cache, data, name) for name in names if cache is not None},
        drawn=drawn_views(config, cache, data) if cache is not None else None,
        students=student_facts(config, data.samples, lambda teacher: _classes(data, cache, teacher)),
        fingerprints=fingerprints(data, cache),
        renderer=cache.info.views["renderer"] if cache is not None else {},
    )


def _classes(data: Dataset, cache: Cache | None, teacher: str | Sequence[str] | None) -> int | None:
    """How many classes a student predicts: its teachers', or else the data's; without labels, those of the only one."""
    if cache is None:
        return len(data.classes) or None
    names = [teacher] if isinstance(teacher, str) else teacher or (() if data.classes else cache.teachers)
    found = {cache.teacher(name).info.classes for name in names if name in cache.teachers}
    return found.pop() if len(found) == 1 else len(data.classes) or None


def _state(config: Config) -> str:
    """Digest of all that the page is made from."""
    places = {"data": config.data_place, "eval": config.eval_place, "cache": config.cache_place}
    students = student_places(config)
    records = {name: _records_in(place) for name, place in (places | students).items()}
    return digest(
        canonical(
            {
                "version": VERSION,
                "config": config.model_dump(mode="json"),
                "records": {
                    name: {task: digest(data) for task, data in found.items()} for name, found in records.items()
                },
                "progress": {name: progress_of(place) for name, place in students.items()},
            }
        )
    )


def _records_in(place: Place) -> dict[str, bytes]:
    """Every record under a place, as it is on disk, by task."""
    snapshot = Ledger(place).snapshot()
    return {task: data for task in snapshot.tasks() if (data := snapshot.raw(task)) is not None}


def homes(config: Config, task: Task) -> Sequence[RecordLocation]:
    """In the run's own place."""
    return [RecordLocation(config.run_place, task.name, task.name)]


def details(results: Results, concluded: Mapping[str, Any] | None) -> Sequence[str]:  # noqa: ARG001
    """Where the page is."""
    return figure_lines(results, ("path",))


STAGE = Stage("report", "pages", tasks, done, run, homes=homes, details=details)
