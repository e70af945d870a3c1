"""Checking a data set beyond its objects' digests: its indexes are those that it was described from, its images those
that were indexed. That finds what was changed together with its record, and tars that are not ours.
"""

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.places import place_of
from stillroom.storage.dataset.dataset import DESCRIPTION, WHOLE_TASK, Dataset, contents_digest, index_name, ingest_task
from stillroom.storage.errors import StillroomError, UnreachableError

from .findings import Failure, Finding

CHECK = "data"


def check_data_shard(config: Config, part: str, shard: int) -> Finding:
    """Every image of a data shard against its index."""
    data = Dataset(place_of(config, part))
    number = data.description.numbers[shard]
    redo = part, ingest_task(number)
    finding = Finding({CHECK: 0})
    try:
        index = data.index(shard)
        if len(index) != data.sizes[shard]:
            message = f"has {len(index)} samples, {data.sizes[shard]} are in {DESCRIPTION}"
            finding.failures.append(Failure(CHECK, f"{part}: {index_name(number)}", message, redo))
            return finding
    except UnreachableError:
        raise
    except StillroomError as error:
        # Without its record, the task is to be done anyway.
        drop = redo if data.ledger.has(redo[1]) else None
        finding.failures.append(Failure(CHECK, f"{part}: {index_name(number)}", str(error), drop, redo))
        return finding
    try:
        for _ in data.images(shard, index, config.render.encoded):
            continue
        finding.checked[CHECK] = len(index)
    except UnreachableError:
        raise
    except StillroomError as error:
        # A tar that is not ours is not made again: whoever has it must restore it.
        where = f"{part}: {data.description.shards[shard]}"
        finding.failures.append(Failure(CHECK, where, str(error), redo if data.owns(shard) else None, redo))
    return finding


def check_description(config: Config, part: str) -> Finding:
    """The digest of the whole, from the indexes."""
    data = Dataset(place_of(config, part))
    finding = Finding({CHECK: 1})
    try:
        indexes = [data.index(shard) for shard in range(len(data.sizes))]
    except UnreachableError:
        raise
    except StillroomError:
        return finding  # the check of that data shard says so
    if contents_digest(indexes, data.classes) != data.description.digest:
        # Where it is not known which indexes were joined, those may be at fault, and would be joined again.
        redo = (part, WHOLE_TASK) if data.joined else None
        message = "its classes or digest are not those of the indexes; ingest again into another folder if this stays"
        finding.failures.append(Failure(CHECK, f"{part}: {DESCRIPTION}", message, redo))
    return finding
