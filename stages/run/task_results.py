"""What the tasks of a stage returned, kept until all are there: array jobs join their results through it.

Each result is a record of its own, so a job that is killed loses at most the task in hand, and any number of jobs can
go on. Results count only for the state in which the first of them was found.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.storage.errors import DamagedObjectError
from stillroom.storage.ledger.fingerprint import canonical, digest
from stillroom.storage.ledger.ledger import Ledger, Record

from .stage import Stage, Task

FOLDER = "jobs"
"""Under the run's place."""


class Kept:
    """Results of a stage's tasks.

    Args:
        stage: which; it says of what state its results tell.
        config: of the run.
        tasks: all of the stage.
    """

    def __init__(self, stage: Stage, config: Config, tasks: Sequence[Task]) -> None:
        assert stage.state is not None
        self._tasks = tasks
        self._ledger = _ledger(stage, config)
        self._state = digest(canonical({"state": stage.state(config), "tasks": [task.name for task in tasks]}))

    def get(self, task: Task) -> Mapping[str, Any] | None:
        """What a task returned; None where it has not been done in this state."""
        try:
            record = self._ledger.get(task.name)
        except DamagedObjectError:
            return None
        return record.facts if record is not None and record.fingerprint == self._state else None

    def put(self, task: Task, result: Mapping[str, Any]) -> None:
        """Keep what a task returned."""
        self._ledger.put(Record(task.name, self._state, {}, result))

    def results(self) -> dict[str, Mapping[str, Any]]:
        """All that is there, by the tasks' names, in their order."""
        found = {task.name: self.get(task) for task in self._tasks}
        return {name: result for name, result in found.items() if result is not None}


def forget(stage: Stage, config: Config) -> None:
    """Drop whatever is kept of a stage."""
    ledger = _ledger(stage, config)
    for name in list(ledger.tasks()):
        ledger.drop(name)


def _ledger(stage: Stage, config: Config) -> Ledger:
    return Ledger(config.run_place.at(f"{FOLDER}/{stage.name}"))
