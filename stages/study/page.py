"""A study as one HTML page: what it found, a table for each question, and curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import comb
from typing import Any

import numpy as np
from markupsafe import Markup

from stillroom.stages.report.charts import COLOURS, Line, curves
from stillroom.stages.report.page import rendered, versions

from .arms import CONSISTENT
from .results import Result, compare, findings

QUESTIONS = {
    "design": "Does consistency win?",
    "views": "How many distinct views are enough?",
    "temperature": "What does the temperature do?",
    "codec": "What does the codec cost?",
}


@dataclass(frozen=True)
class Setup:
    """What was compared, in numbers.

    Attributes:
        name: of the study.
        samples, evaluated, classes: of the data.
        student, teacher: models.
        size: of all views in pixels.
        views: of each image in every cache.
        epochs: of every student.
        teacher_epochs: of the teacher.
        teacher_top1: on the evaluation set.
        seeds: that are finished.
        wanted: that were asked for.
        seconds: spent.
        bytes_per_view: of logits, by cache.
        machine: in words.
    """

    name: str
    samples: int
    evaluated: int
    classes: int
    student: str
    teacher: str
    size: int
    views: int
    epochs: int
    teacher_epochs: int
    teacher_top1: float
    seeds: int
    wanted: int
    seconds: float
    bytes_per_view: Mapping[str, float]
    machine: str


def page(setup: Setup, results: Mapping[str, Result]) -> str:
    """The page, the same text for the same facts and packages."""
    return rendered(
        resources.files(__package__).joinpath("study.html").read_text("utf-8"),
        setup=setup,
        findings=findings(results, setup.views),
        tables=_tables(results),
        charts=_charts(setup, results),
        names=[result.arm.name for result in _designs(results)],
        chance=2 / comb(2 * setup.seeds, setup.seeds),
        colours=COLOURS,
        versions=versions(),
    )


def _tables(results: Mapping[str, Result]) -> list[tuple[str, list[dict[str, Any]]]]:
    found = []
    for question, title in QUESTIONS.items():
        rows = [_row(result, results) for result in results.values() if result.arm.question == question]
        if question != "design" and CONSISTENT in results:
            rows.append(_row(results[CONSISTENT], results))
        if rows:
            found.append((title, rows))
    return found


def _row(result: Result, results: Mapping[str, Result]) -> dict[str, Any]:
    base = results.get(CONSISTENT)
    top1, kl = result.last("top1"), result.last("kl")
    against = compare(result, base, "kl") if base is not None and base is not result else None
    return {
        "name": result.arm.name,
        "says": result.arm.says,
        "top1": (float(top1.mean()), float(top1.min()), float(top1.max())),
        "kl": (float(kl.mean()), float(kl.min()), float(kl.max())),
        "turn": result.turn(),
        "settled": against.settled if against is not None else None,
    }


def _designs(results: Mapping[str, Result]) -> list[Result]:
    return [result for result in results.values() if result.arm.question == "design"]


def _charts(setup: Setup, results: Mapping[str, Result]) -> list[tuple[str, str, Markup]]:
    """(title, remark, chart): means over seeds."""
    designs = _designs(results)
    found = []
    for figure, title, scale, level in (
        ("top1", "Top-1 accuracy", "share", setup.teacher_top1),
        ("kl", "KL to the teacher", "log", None),
    ):
        lines = [Line(n, result.epochs, result.curves[figure].mean(axis=0)) for n, result in enumerate(designs)]
        remark = "evaluation set, mean over seeds" + ("; dashed: the teacher" if level is not None else "; nats")
        svg = curves(f"design-{figure}", lines, title, "share" if scale == "share" else "log", level)
        found.append((title, remark, Markup(svg)))  # noqa: S704
    fewer = sorted(_counted(results, setup.views).items())
    if len(fewer) > 1:
        counts = np.array([count for count, _ in fewer], np.float64)
        kl = np.array([result.last("kl").mean() for _, result in fewer])
        svg = curves("views-kl", [Line(0, counts, kl)], "KL by number of views", "log", None, "distinct views")
        found.append(("KL by number of views", "at the end, mean over seeds; nats", Markup(svg)))  # noqa: S704
    return found


def _counted(results: Mapping[str, Result], views: int) -> dict[int, Result]:
    found = {r.arm.student["views_used"]: r for r in results.values() if r.arm.question == "views"}
    return found | ({views: results[CONSISTENT]} if CONSISTENT in results else {})


def in_words(tables: Sequence[tuple[str, list[dict[str, Any]]]]) -> list[str]:
    """The tables as lines of text, for a terminal."""
    lines = []
    for title, rows in tables:
        lines.append(title)
        for row in rows:
            top1, kl = row["top1"], row["kl"]
            lines.append(
                f"  {row['name']:18} top-1 {100 * top1[0]:5.1f} % ({100 * top1[1]:.1f} to {100 * top1[2]:.1f})  "
                f"KL {kl[0]:.3f} ({kl[1]:.3f} to {kl[2]:.3f})  least {row['turn'][1]:.3f} at epoch {row['turn'][0]:g}"
            )
    return lines


def text(setup: Setup, results: Mapping[str, Result]) -> list[str]:
    """The study for a terminal: tables, then findings."""
    return [*in_words(_tables(results)), *findings(results, setup.views)]
