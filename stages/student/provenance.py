"""What a student's weights depend on, and refusing to go on with one that was trained otherwise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student, Teacher
from stillroom.pipeline.models.weights.digest import weights_digest
from stillroom.pipeline.models.weights.location import at_hand
from stillroom.storage.cache.cache import Cache
from stillroom.storage.ledger.fingerprint import Fingerprint, refuse_difference, stated
from stillroom.storage.objects.base import Place

from .drift import other_backend

_GONE = "not at hand"
_NOT_IDENTITY = {"name", "dir", "eval_epochs", "checkpoint_minutes", "proof_share", "accumulate"}


def student_fingerprint(config: Config, student: Student, cache: Cache) -> Fingerprint:
    """Its settings, the views it sees, and the teachers it learns from.

    Not how many ranks it is trained on, nor in how many pieces a batch is taken: the batches are the same.
    """
    sections = config.teachers_of(student)
    made: dict[str, Any] = {
        "student": {
            **stated(student.model_dump(mode="json", exclude=_NOT_IDENTITY), student.LATER),
            "teacher_weights": _shares(student.teacher_weights),
            "teacher": [section.name for section in sections] if student.target != "labels" else None,
            "views_used": config.views_of(student),
        },
        "views": {key: value for key, value in cache.info.views.items() if key != "renderer"},
    }
    other = other_backend(config, student, cache)
    if other is not None:
        made["renderer"] = {"backend": other}
    if student.target == "cache":
        infos = {section.name: cache.teacher(section.name).info for section in sections}
        made["teachers"] = {name: {**info.fingerprint, **info.encoding} for name, info in infos.items()}
    if student.design == "fixed":
        made["plain_crop"] = {section.name: cache.teacher(section.name).plain_crop() for section in sections}
    if student.weights is not None:
        made["student"]["weights"] = _digest(student.weights)
    if student.target == "online":
        made["teachers"] = {
            section.name: {
                **stated(section.model_dump(mode="json", exclude={"name", "batch_size"}), section.LATER),
                "weights": _teachers_digest(section),
            }
            for section in sections
        }
    return made


def refuse_other_student(place: Place, stored: Fingerprint, wanted: Fingerprint) -> None:
    """Compare what is in a student's place with what this run would train. Weights that are gone are not compared.

    Raises:
        FingerprintError: they differ.
    """
    remedy = "go back to the old setting, or give the new student another name"
    refuse_difference(f"student {place}", stored, _as_stored(wanted, stored), remedy)


def _as_stored(wanted: Any, stored: Any) -> Any:
    """The same, with what is stored in place of each `_GONE`."""
    if isinstance(wanted, Mapping) and isinstance(stored, Mapping):
        return {key: _as_stored(value, stored.get(key)) for key, value in wanted.items()}
    return stored if wanted == _GONE else wanted


def _shares(weights: tuple[float, ...] | None) -> list[float] | None:
    """Of a mean; None where all are alike, as they are by default."""
    if weights is None or len(set(weights)) == 1:
        return None
    return [weight / sum(weights) for weight in weights]


def _teachers_digest(section: Teacher) -> str:
    weights = at_hand(section)
    return weights_digest(weights) if weights is not None else _GONE


def _digest(weights: str) -> str:
    return weights_digest(weights) if Path(weights).is_file() else _GONE
