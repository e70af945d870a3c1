"""From facts to one HTML page that needs nothing else: charts drawn, numbers written as people read them.

The page's looks are in `report.html` beside this module.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.progress import duration
from stillroom.stages.teacher.codec_loss_text import by_temperature

from .charts import COLOURS, curves, histogram
from .contact_sheet import ContactSheet
from .facts import DataFacts, Drawn, TeacherFacts, Verified
from .students import StudentFacts, lines_of

_PACKAGES = (
    "stillroom",
    "torch",
    "torchvision",
    "nvidia-dali-cuda130",
    "nvidia-nvimgcodec-cu13",
    "timm",
    "webdataset",
    "zarr",
    "numcodecs",
    "numpy",
)

_CHECKS = {
    "objects": "objects, by size and digest",
    "seeds": "seeds, derived again",
    "codec": "blocks, by what they say that their codec lost",
    "plain": "logits of plain views, and a share classified again",
    "digests": "views, rendered again",
    "teacher": "views, classified again",
}


@dataclass(frozen=True)
class Facts:
    """All that a page says.

    Attributes:
        data: the images.
        teachers: in the cache, maybe none.
        verified: the last verification, if any.
        sheets: contact sheets by teacher.
        drawn: parameters of some views; None without a cache.
        students: those that have begun.
        fingerprints: digests by name.
        renderer: what the cache's views were rendered with; empty without a cache.
    """

    data: DataFacts
    teachers: Sequence[TeacherFacts]
    verified: Verified | None
    sheets: Mapping[str, ContactSheet]
    drawn: Drawn | None
    students: Sequence[StudentFacts]
    fingerprints: Mapping[str, str]
    renderer: Mapping[str, Any]


def page(config: Config, facts: Facts) -> str:
    """The page, the same text for the same facts and packages."""
    return rendered(
        resources.files(__package__).joinpath("report.html").read_text("utf-8"),
        config=config,
        facts=facts,
        data=facts.data,
        measured=[teacher for teacher in facts.teachers if teacher.views],
        best=_best(facts.students),
        charts=_student_charts(facts),
        spread=_spread(config, facts.drawn),
        colours=COLOURS,
        settings=settings_of(config),
        toml=as_toml(config),
        checks=_CHECKS,
        versions=versions(),
    )


def rendered(template: str, **facts: Any) -> str:
    """A page of the house's looks.

    Args:
        template: in Jinja; `style` is the style sheet.
        facts: what it shows.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, lstrip_blocks=True)
    environment.filters |= {
        "bytes": in_bytes,
        "count": in_thousands,
        "percent": in_percent,
        "figure": in_figures,
        "by_temperature": by_temperature,
        "time": lambda seconds: duration(seconds).replace(" ", "\u00a0"),
    }
    style = Markup(resources.files(__package__).joinpath("style.css").read_text("utf-8"))  # noqa: S704
    return environment.from_string(template).render(style=style, **facts)


def in_bytes(value: float) -> str:
    """Bytes with a decimal unit: 18.2 B, 580 kB, 3.1 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5:
            return f"{value:.3g}\u00a0{unit}"
        value /= 1000
    return f"{value:,.3g}\u00a0PB"


def in_thousands(value: float | None) -> str:
    """A whole number with thin spaces between thousands; a dash for none."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def in_percent(value: float | None) -> str:
    """A share as per cent with one decimal; a dash for none."""
    return "–" if value is None else f"{value * 100:.1f}\u202f%"


def in_figures(value: float | None, digits: int = 3) -> str:
    """A number with so many significant figures; a dash for none."""
    if value is None:
        return "–"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")) if exponent else ""
    return f"{mantissa}\u202f·\u202f10{raised}" if raised else mantissa


def settings_of(config: Config) -> dict[str, str]:
    """Every setting by its dotted name, its value as TOML; a dash where it is left open."""
    found: dict[str, str] = {}
    for section, value in config.model_dump(mode="json").items():
        tables = {f"{section}.{item['name']}": item for item in value} if isinstance(value, list) else {section: value}
        for name, table in tables.items():
            found |= {f"{name}.{key}": "–" if item is None else _toml(item) for key, item in table.items()}
    return found


def as_toml(config: Config) -> str:
    """The configuration as a file that makes the same run again: what was set, with overrides in place."""
    lines: list[str] = []
    for section, value in config.model_dump(mode="json", exclude_unset=True).items():
        header = f"[[{section}]]" if isinstance(value, list) else f"[{section}]"
        for table in value if isinstance(value, list) else [value]:
            lines += [header, *(f"{key} = {_toml(item)}" for key, item in table.items() if item is not None), ""]
    return "\n".join(lines).strip()


def _toml(value: Any) -> str:
    """A value as TOML. Its strings and lists are JSON's."""
    return json.dumps(value, ensure_ascii=False)


def _best(students: Sequence[StudentFacts]) -> StudentFacts | None:
    """The finished student that is most often right; one that learns from a teacher before one that does not."""
    measured = [student for student in students if student.finished and "top1" in student.figures]
    taught = [student for student in measured if student.settings["target"] != "labels"]
    return max(taught or measured, key=lambda student: student.figures["top1"], default=None)


def _student_charts(facts: Facts) -> list[tuple[str, str, Markup]]:
    """(title, remark, chart) of each figure that some student has."""
    level = next((teacher.evaluation["top1"] for teacher in facts.teachers if "top1" in teacher.evaluation), None)
    remark = "dashed: the teacher" if level is not None else "evaluation set"
    wanted = (
        ("top1", "Top-1 accuracy", remark),
        ("kl", "KL to the teacher", "nats, evaluation set, temperature 1"),
        ("loss", "Training loss", "of each student's own target, so not comparable across targets"),
    )
    charts = []
    for figure, title, said in wanted:
        lines = lines_of(facts.students, figure)
        if lines:
            scale, across = ("share", level) if figure == "top1" else ("log", None)
            svg = curves(figure, lines, f"{title} over epochs", "share" if scale == "share" else "log", across)
            charts.append((title, said, Markup(svg)))  # noqa: S704
    return charts


def _spread(config: Config, drawn: Drawn | None) -> list[tuple[str, Markup]]:
    """(title, chart) of the parameters of views."""
    if drawn is None:
        return []
    aspect, bounds = np.log2(drawn.aspect), np.log2(config.views.aspect)
    edge = max(0.5, float(np.ceil(2 * np.abs(bounds).max()) / 2))
    found = [
        ("Crop area", histogram("area", drawn.area, 0.0, 1.0, "share of the image")),
        ("Crop shape", histogram("aspect", aspect, -edge, edge, "log₂ of width over height")),
    ]
    if len(drawn.share):
        found.append(("Mixing", histogram("lambda", drawn.share, 0.0, 1.0, "λ, the view's own share")))
    return [(title, Markup(svg)) for title, svg in found]  # noqa: S704


def versions() -> dict[str, str]:
    """Of Python and of the packages that a run depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
