"""What came of a study: each arm's figures over its seeds, and what they settle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.places import STUDENT_TASK
from stillroom.stages.student.metrics import read_metrics
from stillroom.storage.ledger.ledger import Ledger

from .arms import CONSISTENT, Arm

FIGURES = ("top1", "kl")
"""Share of the evaluation set that is right; nats from the teacher on it, at temperature 1."""


@dataclass(frozen=True)
class Result:
    """An arm over its seeds.

    Attributes:
        arm: which.
        epochs: float64 [k], at which it was evaluated.
        curves: by figure, float64 [seed, k].
        proved: views that were compared with the teacher's digests, over all seeds.
    """

    arm: Arm
    epochs: npt.NDArray[np.float64]
    curves: Mapping[str, npt.NDArray[np.float64]]
    proved: int

    def last(self, figure: str) -> npt.NDArray[np.float64]:
        """A figure at the end, float64 [seed]."""
        return self.curves[figure][:, -1]

    def turn(self) -> tuple[float, float, float]:
        """When the mean KL was least: epoch, that KL, and the KL at the end."""
        mean = self.curves["kl"].mean(axis=0)
        best = int(mean.argmin())
        return float(self.epochs[best]), float(mean[best]), float(mean[-1])


@dataclass(frozen=True)
class Comparison:
    """One arm against another.

    Attributes:
        by: the difference of the means.
        settled: whether every seed of the one is on the same side of every seed of the other.
    """

    by: float
    settled: bool


def result_of(arm: Arm, configs: Sequence[Config]) -> Result | None:
    """An arm over those of its seeds that are finished; None for none.

    Args:
        arm: which.
        configs: of its cache, one for each seed.
    """
    curves: dict[str, list[list[float]]] = {figure: [] for figure in FIGURES}
    epochs: list[float] = []
    proved = 0
    for config in configs:
        for student in config.student:
            if student.name.rpartition("-")[0] != arm.name:
                continue
            place = config.student_place(student)
            record = Ledger(place).get(STUDENT_TASK)
            if record is None:
                continue
            steps = record.facts["steps"] / record.facts["epochs"]
            events = [line for line in read_metrics(place) if line["event"] == "eval"]
            epochs = [event["step"] / steps for event in events]
            proved += record.facts["proved"]
            for figure in FIGURES:
                curves[figure].append([event[figure] for event in events])
    if not epochs:
        return None
    return Result(arm, np.array(epochs), {name: np.array(rows) for name, rows in curves.items()}, proved)


def compare(one: Result, other: Result, figure: str) -> Comparison:
    """Where an arm ended, against where another did."""
    mine, theirs = one.last(figure), other.last(figure)
    apart = bool(mine.min() > theirs.max() or mine.max() < theirs.min())
    return Comparison(float(mine.mean() - theirs.mean()), apart and len(mine) > 1)


def findings(results: Mapping[str, Result], views: int) -> list[str]:
    """What the study says to its questions, in sentences, by the same rule whatever comes out."""
    base = results.get(CONSISTENT)
    if base is None:
        return []
    said = []
    for name, question in (
        ("independent", "Consistent against independent views"),
        ("fixed", "Consistent against a fixed teacher"),
        ("labels", "Consistent against labels"),
    ):
        if name in results:
            said.append(_sentence(question, base, results[name]))
    if "function-matching" in results:
        said.append(_sentence("Function matching against consistent", results["function-matching"], base))
    if "fixed" in results:
        epoch, least, end = results["fixed"].turn()
        over = end > 1.02 * least
        said.append(
            f"The fixed teacher’s student is nearest to its teacher at epoch {epoch:g} (KL {least:.3g}) and at "
            f"{end:.3g} in the end: "
            + ("it overfits from there." if over else "it does not overfit within this study.")
        )
    said += _enough_views(results, base, views)
    for name in ("t-1", "t-5", "t-10", "codec-transform", "codec-coarse"):
        if name in results:
            said.append(
                _sentence(_capital(results[name].arm.says) + " against the common setting", results[name], base)
            )
    return said


def _enough_views(results: Mapping[str, Result], base: Result, views: int) -> list[str]:
    """The fewest views whose seeds cannot be told from those of all views."""
    fewer = sorted(
        (r for r in results.values() if r.arm.question == "views"), key=lambda r: r.arm.student["views_used"]
    )
    if not fewer or len(base.last("kl")) < 2:
        return []
    enough = next((r for r in fewer if not compare(r, base, "kl").settled), None)
    if enough is None:
        return [f"No smaller number of distinct views was as near to the teacher as {views}."]
    count = enough.arm.student["views_used"]
    if count == 1:
        return [f"Even one view of each image could not be told from {views} by these seeds."]
    mine, all_of_them = enough.last("kl").mean(), base.last("kl").mean()
    return [
        f"{count} distinct views of each image: KL {mine:.3g}, where {views} give {all_of_them:.3g}; the seeds’ ranges "
        "overlap. With fewer, they do not."
    ]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _sentence(question: str, one: Result, other: Result) -> str:
    parts = []
    for figure, digits in (("top1", "{:+.1f} points of top-1"), ("kl", "{:+.3g} nats of KL to the teacher")):
        found = compare(one, other, figure)
        value = digits.format(100 * found.by if figure == "top1" else found.by)
        few = "one seed" if len(one.last(figure)) == 1 else "the seeds’ ranges overlap"
        parts.append(f"{value} ({'every seed' if found.settled else few + ': not settled'})")
    return f"{question}: {', '.join(parts)}."
