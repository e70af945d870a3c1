"""Which classes a teacher, and whoever learns from it, tells apart.

Those of the training data where these are labelled, unless its [[teacher]] table states classes of its own, which
labels then say nothing of. Where `data.labels` is false, the teacher's own: what its weights' file says, its table,
`data.classes`, and the evaluation set, which must agree as far as they say anything.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.weights.location import at_hand
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DamagedObjectError, DataError, MissingObjectError


def classes_of(config: Config, data: Dataset, section: Teacher | None) -> tuple[str, ...]:
    """Names, in the order of the logits, of the classes that a model of this run predicts.

    Args:
        config: of the run.
        data: the training data.
        section: the teacher that it is, or that it learns from; None for a student of the labels.

    Raises:
        DataError: nothing names the teacher's classes, or two things name different ones.
    """
    if section is None or (data.classes and section.classes is None):
        return data.classes
    if data.classes:
        return _own(section, _in_weights(section))
    said = _said(config, section)
    evaluation = _evaluation_classes(config)
    if evaluation is not None:
        said["the evaluation data"] = evaluation
    names = _agreed(section, said)
    if names is None and section.classes is None:
        raise DataError(
            f"nothing names the classes of teacher {section.name!r}: data.labels is false, and its weights "
            f"{section.weights} say none; give labelled images of its own task as data.eval, or data.classes, or say "
            "in its [[teacher]] table how many there are, as classes"
        )
    return _own(section, names)


def _own(section: Teacher, known: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of a teacher's own classes: those that are known, which must be as many as its table says; else numbers."""
    stated = section.classes
    if isinstance(stated, tuple):
        return stated
    if known is not None and stated is not None and len(known) != stated:
        raise DataError(
            f"teacher {section.name!r} has classes = {stated}, and its weights, or the data, name {len(known)} "
            f"({_some(known)}); leave classes out, or set it to {len(known)}"
        )
    return known or tuple(f"class {number}" for number in range(stated or 0))


def labels_count(config: Config, data: Dataset, labelled_data: Dataset, section: Teacher) -> bool:
    """Whether labels are a teacher's classes, so that it can be right or wrong about them.

    Args:
        config, data: as for `classes_of`.
        labelled_data: whose labels: the training data, or the evaluation set.
        section: the teacher.
    """
    return bool(labelled_data.classes) and labelled_data.classes == classes_of(config, data, section)


def labelled(config: Config, part: str) -> bool:
    """Whether the labels of a part of the data are looked at. Those of the evaluation data always are."""
    return config.data.labels or part == "eval"


def names_of_labels(config: Config, part: str, stated: tuple[str, ...] | None, highest: int) -> tuple[str, ...]:
    """Names, in label order, for a part of the data: its source's, else those it must have, else the labels themselves.

    Args:
        config: of the run.
        part: "train" or "eval".
        stated: what its source says, if anything.
        highest: the largest label in it.

    Raises:
        DataError: the evaluation data have other classes than the training data, or than the teacher; or there is a
            label that has no name, or a single class.
    """
    if not labelled(config, part):
        return ()
    known, whose = _expected(config, part)
    names = stated if stated is not None else known or tuple(str(number) for number in range(highest + 1))
    if known and names != known:
        raise DataError(
            f"data.eval has classes {', '.join(names[:5])} …, {whose} has {', '.join(known[:5])} …; "
            "give their names in label order as data.classes"
        )
    if highest >= len(names):
        raise DataError(f"data.{part} has label {highest}; there are {len(names)} classes, labels start at 0")
    if len(names) < 2:
        raise DataError(f"data.{part} has one class; there must be two or more")
    return names


def _expected(config: Config, part: str) -> tuple[tuple[str, ...], str]:
    """Classes that the evaluation data must have, and whose they are; none for the training data."""
    if part == "train":
        return (), ""
    if config.data.labels:
        return Dataset(config.data_place).classes, "data.train"
    return named_classes(config) or (), "the teacher"


def named_classes(config: Config) -> tuple[str, ...] | None:
    """Names that are known before any image is looked at, for data whose labels are the first teacher's classes.

    Raises:
        DataError: `data.classes` and the weights' file name different ones.
    """
    if not config.teacher:
        return config.data.classes
    return _agreed(config.teacher[0], _said(config, config.teacher[0]))


def names_of(config: Config, data: Dataset, teacher: TeacherLogits) -> tuple[str, ...]:
    """Names of the classes of a teacher in the cache, for people; numbers where they cannot be known here."""
    section = next((item for item in config.teacher if item.name == teacher.name), None)
    try:
        names = classes_of(config, data, section)
    except DataError:
        names = ()
    return names or tuple(str(number) for number in range(teacher.info.classes))


def _said(config: Config, section: Teacher) -> dict[str, tuple[str, ...]]:
    """By who says it: the weights' file, where it is at hand, and the config."""
    found = {f"the weights {section.weights}": _in_weights(section), "data.classes": config.data.classes}
    if isinstance(section.classes, tuple):
        found["its [[teacher]] table"] = section.classes
    return {who: names for who, names in found.items() if names is not None}


def _agreed(section: Teacher, said: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    if not said:
        return None
    (first, names), *others = said.items()
    for who, theirs in others:
        if theirs != names:
            raise DataError(
                f"teacher {section.name!r}: {first} has {len(names)} classes ({_some(names)}), {who} has "
                f"{len(theirs)} ({_some(theirs)}); where data.labels is false, both must be the teacher's own"
            )
    return names


def _in_weights(section: Teacher) -> tuple[str, ...] | None:
    """What a file of weights says, from its header alone. One that cannot be read is refused when it is loaded."""
    path = at_hand(section)
    if path is None or Path(path).suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="numpy") as opened:
            names = json.loads((opened.metadata() or {}).get("classes", "null"))
    except (SafetensorError, OSError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _evaluation_classes(config: Config) -> tuple[str, ...] | None:
    """Those of the evaluation set, where there is one and it is ingested."""
    try:
        return Dataset(config.eval_place).classes if config.data.evaluates else None
    except (MissingObjectError, DamagedObjectError):
        return None


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
