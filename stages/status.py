"""Status: how much of each stage is done, from the ledgers alone."""

from typing import Any

from ..pipeline.config import Config
from ..storage.errors import MissingObjectError
from .registry import NAMES, stage_named


def status_of(config: Config) -> dict[str, Any]:
    """Plain data: for each stage, tasks and units done and in all; null where they are not known yet."""
    return {"run": config.run.name, "stages": [_stage(config, name) for name in NAMES]}


def _stage(config: Config, name: str) -> dict[str, Any]:
    stage = stage_named(name)
    try:
        tasks, check = stage.tasks(config), stage.done(config)
    except MissingObjectError:
        return {"stage": stage.name, "tasks": None, "done": None, "text": "waits for the stage before it"}
    finished = [task for task in tasks if check(task)]
    units, units_done = sum(task.units for task in tasks), sum(task.units for task in finished)
    return {
        "stage": stage.name,
        "tasks": len(tasks),
        "done": len(finished),
        "units": units,
        "units_done": units_done,
        "unit": stage.unit,
        "text": f"{len(finished)} of {len(tasks)} tasks, {units_done:,} of {units:,} {stage.unit}",
    }
