"""Several students from one pass over the data: each batch is decoded and drawn once, and given to all of them.

Students of a config that agree on batches and views form a group, which is one task.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student
from stillroom.stages.run.stage import Advance, RecordLocation, Results, Stage, Task
from stillroom.storage.dataset.dataset import Dataset

from . import stage as alone

_BETWEEN = " + "


def groups(config: Config) -> list[list[Student]]:
    """The config's students, those together that can share a pass."""
    found: dict[tuple[int, ...], list[Student]] = {}
    for student in config.student:
        shared = (student.batch_size, student.seed, student.lane_window, config.views_of(student))
        found.setdefault(shared, []).append(student)
    return list(found.values())


def tasks(config: Config) -> Sequence[Task]:
    """One for each group."""
    samples = Dataset(config.data_place).samples
    return [
        Task(_BETWEEN.join(student.name for student in group), 0, sum(alone.units_of(item, samples) for item in group))
        for group in groups(config)
    ]


def done(config: Config) -> Callable[[Task], bool]:
    """Whether all of a group are trained.

    Raises:
        FingerprintError: a student of that name was trained otherwise.
    """
    return lambda task: all(alone.is_trained(config, student) for student in _group(config, task))


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Train those of a group that are not trained yet."""
    left = [student for student in _group(config, task) if not alone.is_trained(config, student)]
    return {"students": alone.train(config, left, advance)} if left else {"students": {}}


def homes(config: Config, task: Task) -> Sequence[RecordLocation]:
    """Under each student's own place."""
    return [alone.home_of(config, student) for student in _group(config, task)]


def _group(config: Config, task: Task) -> list[Student]:
    return next(group for group in groups(config) if _BETWEEN.join(student.name for student in group) == task.name)


def details(results: Results, concluded: Mapping[str, Any] | None) -> Sequence[str]:
    """How good each student of each group is."""
    students = {name: figures for result in results.values() for name, figures in result["students"].items()}
    return alone.details(students, concluded)


STAGE = Stage(
    "train-many",
    "views",
    tasks,
    done,
    run,
    homes=homes,
    resumable=True,
    notes=alone.notes,
    ranks="together",
    details=details,
    look_ahead=alone.look_ahead,
)
