"""All stages by name, in the order in which `stillroom run` does them."""

import importlib

from .stage import Stage

NAMES = ("ingest", "seeds", "teacher", "verify", "student", "report")


def stage_named(name: str) -> Stage:
    """The stage of that name; its module is imported only now, since some bring much along."""
    assert name in (*NAMES, "train-many")
    stage = importlib.import_module(f".{name.replace('-', '')}", __package__).STAGE
    assert isinstance(stage, Stage)
    return stage
