"""All stages by name, and the module of each, in the order in which `stillroom run` does them.

A package brings a stage by an entry point of the group `stillroom.stages`, which names its `Stage`; then
`stillroom NAME CONFIG` runs it.
"""

import importlib
from importlib.metadata import EntryPoint, entry_points

from stillroom.storage.errors import ConfigError

from .stage import Stage

GROUP = "stillroom.stages"
_MODULES = {
    "ingest": "ingest.stage",
    "seeds": "teacher.seeds",
    "teacher": "teacher.stage",
    "verify": "verify.stage",
    "student": "student.stage",
    "report": "report.stage",
}
_APART = {"train-many": "student.train_many"}
NAMES = tuple(_MODULES)


def stage_named(name: str) -> Stage:
    """The stage of that name; its module is imported only now, since some bring much along.

    Raises:
        ConfigError: there is none, or what a package brings under that name is no stage of that name.
    """
    if name in _MODULES or name in _APART:
        stage = importlib.import_module(f"stillroom.stages.{(_MODULES | _APART)[name]}").STAGE
    elif (point := packaged(name)) is not None:
        stage = point.load()
    else:
        raise ConfigError(f"there is no stage {name!r}; there are: {', '.join((*NAMES, *_APART))}")
    if not isinstance(stage, Stage) or stage.name != name:
        raise ConfigError(f"{stage!r}, entry point {name!r} of {GROUP}, is no Stage of that name")
    return stage


def packaged(name: str) -> EntryPoint | None:
    """The entry point of a stage that an installed package brings; None where none does."""
    return next(iter(entry_points(group=GROUP, name=name)), None)
