"""All stages by name, in the order in which `stillroom run` does them."""

from . import ingest, report, seeds, student, teacher, verify
from .stage import Stage

STAGES: tuple[Stage, ...] = (
    ingest.STAGE,
    seeds.STAGE,
    teacher.STAGE,
    verify.STAGE,
    student.STAGE,
    report.STAGE,
)


def stage_named(name: str) -> Stage:
    """The stage of that name."""
    return next(stage for stage in STAGES if stage.name == name)
