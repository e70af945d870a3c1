"""What a report says of students: settings and figures from their records, and curves from what they logged.

All students of a run are found, those of earlier configs and those that are not finished too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.places import STUDENT_TASK, student_places
from stillroom.stages.student.metrics import METRICS, read_metrics
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.base import Place

from .charts import Line
from .facts import parameters_of


@dataclass(frozen=True)
class StudentFacts:
    """A student.

    Attributes:
        name: the student's.
        settings: its section of the config; empty where an unfinished student is no longer in it.
        finished: whether it has its record.
        epoch: finished epochs; None where it is not known how many steps one has.
        parameters: trainable numbers of the model; None where they are not known.
        figures: "top1", "top5" as shares, "kl" in nats on the evaluation set; the last ones while unfinished.
        seconds: of training and evaluation; None while unfinished.
        views: views learnt from.
        proved: views whose digest was compared; None while unfinished.
        fingerprint: of the record; empty while unfinished.
        curves: "top1", "kl", "loss" over epochs, where there are any.
    """

    name: str
    settings: Mapping[str, Any]
    finished: bool
    epoch: float | None
    parameters: int | None
    figures: Mapping[str, float]
    seconds: float | None = None
    views: int | None = None
    proved: int | None = None
    fingerprint: str = ""
    curves: Mapping[str, Line] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """How far it is, in words."""
        if self.finished:
            return "finished"
        if self.epoch is None:
            return "not finished"
        of = f" of {self.settings['epochs']}" if "epochs" in self.settings else ""
        return f"running, epoch {int(self.epoch) + 1}{of}"


def student_facts(
    config: Config, samples: int, classes: Callable[[str | Sequence[str] | None], int | None]
) -> list[StudentFacts]:
    """All students that have begun: the config's first, in its order.

    Args:
        config: of the run.
        samples: of the data set.
        classes: how many a student predicts that has teachers of these names, or none; None where it is not known.
    """
    places = student_places(config)
    order = [student.name for student in config.student]
    names = order + [name for name in places if name not in order]
    found = (_student(config, name, places[name], samples, classes) for name in names)
    begun = [student for student in found if student is not None]
    return [_numbered(student, number) for number, student in enumerate(begun)]


def lines_of(students: Sequence[StudentFacts], figure: str) -> list[Line]:
    """A figure's line of each student that has one."""
    return [student.curves[figure] for student in students if figure in student.curves]


def _student(
    config: Config, name: str, place: Place, samples: int, classes: Callable[[str | Sequence[str] | None], int | None]
) -> StudentFacts | None:
    record, log = Ledger(place).get(STUDENT_TASK), read_metrics(place)
    if record is None:
        if not log:
            return None
        settings = next((item.model_dump(mode="json") for item in config.student if item.name == name), {})
        steps = samples // settings["batch_size"] if settings else 0
        done = log[-1]["step"]
        last: Mapping[str, Any] = next((line for line in reversed(log) if line["event"] == "eval"), {})
        return StudentFacts(
            name=name,
            settings=settings,
            finished=False,
            epoch=done / steps if steps else None,
            parameters=_parameters(settings, classes),
            figures={key: last[key] for key in ("top1", "top5", "kl") if key in last},
            views=done * settings["batch_size"] if settings else None,
            curves=_curves(log, steps),
        )
    facts = record.facts
    settings = facts["made_from"]["student"]
    return StudentFacts(
        name=name,
        settings=settings,
        finished=True,
        epoch=facts["epochs"],
        parameters=_parameters(settings, classes),
        figures={key: facts[key] for key in ("top1", "top5", "kl") if key in facts},
        seconds=facts["seconds"],
        views=facts["steps"] * settings["batch_size"],
        proved=facts["proved"],
        fingerprint=record.fingerprint,
        curves=_curves(log, facts["steps"] / facts["epochs"]),
    )


def _parameters(settings: Mapping[str, Any], classes: Callable[[str | Sequence[str] | None], int | None]) -> int | None:
    """Trainable numbers of a student's model; None where its settings or its classes are not known."""
    count = classes(settings["teacher"]) if settings else None
    return parameters_of(settings["model"], count) if count is not None else None


def _curves(log: Sequence[Mapping[str, Any]], steps: float) -> dict[str, Line]:
    """Lines over epochs of so many steps; none where that is not known."""
    found = {}
    for figure in ("top1", "kl", "loss") if steps else ():
        points = [(line["step"] / steps, line[figure]) for line in log if figure in line]
        if points:
            x, y = np.array(points, np.float64).T
            found[figure] = Line(0, x, y)
    return found


def _numbered(student: StudentFacts, number: int) -> StudentFacts:
    curves = {name: Line(number, line.x, line.y) for name, line in student.curves.items()}
    return StudentFacts(**{**vars(student), "curves": curves})


def progress_of(place: Place) -> int | None:
    """Size in bytes of what a student has logged: changes as it goes on."""
    return place.size(METRICS)
