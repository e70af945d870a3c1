"""All stages by name, and the module of each, in the order in which `stillroom run` does them."""

import importlib

from .stage import Stage

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
    """The stage of that name; its module is imported only now, since some bring much along."""
    stage = importlib.import_module(f"stillroom.stages.{(_MODULES | _APART)[name]}").STAGE
    assert isinstance(stage, Stage)
    return stage
