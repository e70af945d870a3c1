"""From all that a check found to the tasks that a repair drops: the causes, and not what only follows from them.

Seeds that are not their own make every view look wrong; to drop the logits as well would give up a teacher's pass that
is good. What is wrong in its own right is found by the next check, once the cause is mended.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stillroom.storage.cache.layout import EVALUATION, SEEDS_TASK, TEACHERS, plain_layout_task, plain_shard
from stillroom.storage.dataset.dataset import WHOLE_TASK

from .objects import CHECK as OBJECTS

Named = tuple[str, str]
"""Name of a holding, and of a task in its ledger."""


def to_redo(failures: Sequence[Mapping[str, Any]]) -> list[Named]:
    """Tasks to be done again.

    Args:
        failures: as plain data. An object that differs from its record is wrong whatever else is.
    """
    wrong = {named for failure in failures if (named := _named(failure.get("redo") or failure.get("about")))}
    found = set()
    for failure in failures:
        redo = _named(failure.get("redo"))
        if redo is not None and (failure["check"] == OBJECTS or not _follows(redo, wrong)):
            found.add(redo)
    return sorted(found)


def _named(value: Any) -> Named | None:
    return (str(value[0]), str(value[1])) if value else None


def _follows(task: Named, wrong: Collection[Named]) -> bool:
    return any(_builds_on(task, other) for other in wrong)


def _builds_on(task: Named, other: Named) -> bool:
    """Whether a task is made from what another one writes."""
    (holding, name), (others, its) = task, other
    if task == other or others not in ("train", "eval", "cache"):
        return False
    if others == "cache":
        layouts = its.startswith(f"{TEACHERS}/") and "/layout/" in its
        same_teacher = name.split("/")[:2] == its.split("/")[:2] and "/layout/" not in name
        plain = plain_shard(name) is not None and its == plain_layout_task(name.split("/")[1])
        follows = its == SEEDS_TASK or (layouts and same_teacher) or plain
        return holding == "cache" and name != SEEDS_TASK and follows
    if holding == others:
        return name == WHOLE_TASK and its != WHOLE_TASK
    # What is of the training data is everything in the cache.
    return holding == "cache" and (others == "train" or name.endswith(f"/{EVALUATION}"))
