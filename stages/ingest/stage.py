"""Ingest: from a user's images to data shards, their indexes and a description of the whole.

One task per data shard and part ("train", "eval"); then one per part that joins the indexes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.figure_lines import figure_lines
from stillroom.stages.run.places import parts, place_of
from stillroom.stages.run.stage import Advance, RecordLocation, Results, Stage, Task
from stillroom.storage.dataset.dataset import WHOLE_TASK, Dataset, ingest_task
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger.ledger import Ledger

from .describe import describe, whole
from .provenance import made_from, refuse_changed_source, refuse_other_source
from .shard import ingest_shard
from .sources.open import open_source, url_of
from .sources.registry import source_kind


def tasks(config: Config) -> Sequence[Task]:
    """Data shards of each part, then the description of each."""
    found = []
    for part in parts(config):
        data = _dataset(config, part)
        if data is not None:
            sizes = dict(zip(data.description.numbers, data.description.sizes, strict=True))
        else:
            sizes = dict(enumerate(open_source(config, part).sizes))
        found += [Task(f"{part}/{ingest_task(number)}", 0, size) for number, size in sizes.items()]
    return [*found, *(Task(f"{part}/{WHOLE_TASK}", wave, 0) for wave, part in enumerate(parts(config), 1))]


def done(config: Config) -> Callable[[Task], bool]:
    """Whether a task's record is there.

    Raises:
        FingerprintError: its data was ingested from elsewhere or by other settings.
    """
    joined = {part: data for part in parts(config) if (data := _dataset(config, part)) is not None}
    described = {part: joined[part].description if part in joined else None for part in parts(config)}
    for part, description in described.items():
        if description is not None:
            refuse_other_source(place_of(config, part), description.ingest, made_from(config, part))

    def check(task: Task) -> bool:
        part, _, name = task.name.partition("/")
        place, description = place_of(config, part), described[part]
        if name == WHOLE_TASK:
            record = Ledger(place).get(name)
            return description is not None and record is not None and record.fingerprint == whole(place, description)
        record = Ledger(place).get(name)
        if record is not None and description is None:
            refuse_changed_source(config, part, place, record, open_source(config, part))
        return record is not None and (part not in joined or joined[part].joins(record))

    return check


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Do one task."""
    part, _, name = task.name.partition("/")
    source = open_source(config, part)
    if name == WHOLE_TASK:
        return describe(config, part, source)
    return ingest_shard(config, part, source, int(name.rpartition("/")[2]), advance)


def _dataset(config: Config, part: str) -> Dataset | None:
    try:
        return Dataset(place_of(config, part))
    except (MissingObjectError, DamagedObjectError):
        return None


def homes(config: Config, task: Task) -> Sequence[RecordLocation]:
    """In the ledger of the part's own place."""
    part, _, name = task.name.partition("/")
    return [RecordLocation(place_of(config, part), name, name)]


def prepare(config: Config) -> None:
    """Have downloaded what is to be ingested, where its source needs that."""
    for part in parts(config):
        url = url_of(config, part)
        kind = source_kind(url)
        if kind is not None and kind.fetch is not None and _dataset(config, part) is None:
            kind.fetch(config, url)


def details(results: Results, concluded: Mapping[str, Any] | None) -> Sequence[str]:  # noqa: ARG001
    """How many images each data shard took and rejected, and the whole."""
    return figure_lines(results, ("accepted", "rejected", "samples"))


STAGE = Stage("ingest", "images", tasks, done, run, homes=homes, prepare=prepare, details=details)
