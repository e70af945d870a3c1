"""What a study compares: its caches, and its arms, each a student over one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEMPERATURE = 2.0
PLAIN, MIXED, BOUND, COARSE = "plain", "mixed", "transform", "coarse"
COARSE_KL = 0.5
CACHES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    PLAIN: {"views": {"mixup": False}, "cache": {"codec": "float16", "plain": True}},
    MIXED: {"views": {"mixup": True}, "cache": {"codec": "float16"}},
    BOUND: {"views": {"mixup": False}, "cache": {"codec": "transform"}},
    COARSE: {"views": {"mixup": False}, "cache": {"codec": "transform", "max_kl": COARSE_KL}},
}
"""By name, what each changes of the study's common settings."""


@dataclass(frozen=True)
class Arm:
    """One way to train the student.

    Attributes:
        name: unique in the study.
        question: which table it is in: "design", "views", "temperature" or "codec".
        says: what it is, for people.
        cache: which one it reads.
        student: what it changes of the common student.
    """

    name: str
    question: str
    says: str
    cache: str
    student: Mapping[str, Any]


CONSISTENT = "consistent"
"""The arm that all questions share: every view, the common temperature, 16-bit floats."""


def arms_of(views: int) -> list[Arm]:
    """All arms of a study with so many views of each image."""
    designs = [
        Arm("labels", "design", "labels, plain crops; no teacher", PLAIN, {"target": "labels"}),
        Arm("labels-mixed", "design", "labels, mixed crops; no teacher", MIXED, {"target": "labels"}),
        Arm(
            "fixed", "design", "the teacher’s answer to one centre view, whatever the student sees", PLAIN, _of("fixed")
        ),
        Arm("independent", "design", "the teacher’s answer to another view of the image", PLAIN, _of("independent")),
        Arm(CONSISTENT, "design", "the teacher’s answer to the very view", PLAIN, {}),
        Arm("function-matching", "design", "the same, over mixed views", MIXED, {}),
    ]
    counts = [2**power for power in range(20) if 2**power < views]
    fewer = [
        Arm(
            f"views-{count}",
            "views",
            f"{count} distinct view{'s' * (count > 1)} of each image",
            PLAIN,
            {"views_used": count},
        )
        for count in counts
    ]
    warmer = [
        Arm(f"t-{value:g}", "temperature", f"softmax temperature {value:g}", PLAIN, {"temperature": value})
        for value in (1.0, 5.0, 10.0)
    ]
    codecs = [
        Arm("codec-transform", "codec", "transform, KL · T² of 0.02 nats at most", BOUND, {}),
        Arm("codec-coarse", "codec", f"transform, KL · T² of {COARSE_KL:g} nats at most", COARSE, {}),
    ]
    return designs + fewer + warmer + codecs


def passes_of(arms: Sequence[Arm]) -> int:
    """Passes over the data that a seed of all arms takes: those of one cache and one number of views share one."""
    return len({(arm.cache, arm.student.get("views_used")) for arm in arms})


def _of(design: str) -> Mapping[str, Any]:
    return {"design": design}
