"""What a student in training is put together from: its model, its target, its share of a pass, its evaluation."""

from collections.abc import MutableMapping, Sequence

import torch

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.device.device import own_device
from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.models.factory import build_model, preprocessing_of
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.models.weights.load import read_weights, start_from
from stillroom.pipeline.models.weights.state_dict import IN_TRAINING
from stillroom.pipeline.render.backend import Backend, backend_at_hand
from stillroom.pipeline.replay.codec_guarantee import Faithfulness, faithfulness
from stillroom.pipeline.replay.shared_pass import SharedPass, StudentRequest
from stillroom.pipeline.replay.targets import TargetSource
from stillroom.pipeline.teacher.evaluation import EvaluationSet
from stillroom.pipeline.train.trainer import Target, Trainer, from_cache, from_labels, from_teacher, with_labels
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.resources import threads_of
from stillroom.stages.teacher.stage import on_evaluation_set
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import evaluation_task
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DataError, MissingObjectError, StoreError
from stillroom.storage.ledger.fingerprint import fingerprint_digest


def guide_of(
    config: Config, student: Student, cache: Cache, opened: MutableMapping[str, TeacherLogits] | None = None
) -> TargetSource | None:
    """Where a student's logits come from; None for one that takes none from the cache.

    Args:
        config, student, cache: of the run.
        opened: teachers that are open, by name; gets those that are opened here.

    Raises:
        MissingObjectError: a teacher is not in the cache, or some of its views are missing; says what to run.
    """
    if student.target != "cache":
        return None
    names = [section.name for section in config.teachers_of(student)]
    views = config.views_of(student)
    opened = {} if opened is None else opened
    for name in names:
        if name not in opened:
            opened[name] = cache.teacher(name)
        teacher = opened[name]
        missing = teacher.missing(views) if teacher.views >= views else []
        if teacher.views < views or missing:
            where = f"; first data shard {missing[0][0]}, block {missing[0][1]}" if missing else ""
            raise MissingObjectError(
                f"the cache holds too few views of teacher {name!r} for student {student.name!r}: "
                f"{teacher.views} of {views} are laid out, {len(missing)} blocks are missing{where}; "
                "run `stillroom teacher` first"
            )
    return TargetSource.of(cache, names, student.teacher_weights, student.design, student.size, opened)


def pass_of(config: Config, students: Sequence[Student], cache: Cache, data: Dataset, ranks: Ranks) -> SharedPass:
    """One pass over the data for some students, who must agree on batches and views."""
    first = students[0]
    wants = []
    opened: dict[str, TeacherLogits] = {}
    for student in students:
        sections = config.teachers_of(student)
        also = sections[0].size if student.target == "online" else None
        guide = guide_of(config, student, cache, opened)
        classes = len(student_classes(config, student, data))
        if guide is not None and guide.first.info.classes != classes:
            raise DataError(
                f"student {student.name!r} has {classes} classes, and the logits of teacher {guide.first.name!r} have "
                f"{guide.first.info.classes}; give it the teacher's own classes"
            )
        wants.append(StudentRequest(student.size, guide, also))
    found = SharedPass(
        cache,
        data,
        wants,
        batch_size=first.batch_size,
        seed=first.seed,
        views=config.views_of(first),
        rank=ranks.rank,
        world=ranks.world,
        window=first.lane_window,
        proof_share=max(student.proof_share for student in students),
        backend=_backend(config, cache, replays=any(want.guide is not None for want in wants)),
        threads=threads_of(config),
        to=own_device(),
        allow_drift=config.render.allow_drift,
        encoded_mb=config.render.encoded_mb,
    )
    found.order.refuse_empty_shares(range(max(student.epochs for student in students)), ranks.world)
    return found


def trainer_of(config: Config, student: Student, data: Dataset, steps: int, ranks: Ranks) -> Trainer:
    """A student that has not begun.

    Args:
        config, student: which.
        data: what it learns from.
        steps: optimiser steps in all.
        ranks: who trains it.
    """
    torch.manual_seed(student.seed)
    model = build_model(student.model, len(student_classes(config, student, data)))
    weights = read_weights(student.weights, order=IN_TRAINING) if student.weights is not None else None
    if weights is not None:
        start_from(model, student.model, weights)
    preprocessing = preprocessing_of(model, weights)
    model = model.to(own_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    target = with_labels(_target(config, student, data), student.label_weight)
    return Trainer(model, preprocessing, student, steps, target, ranks)


def student_classes(config: Config, student: Student, data: Dataset) -> tuple[str, ...]:
    """Names of the classes that a student tells apart, in the order of its logits.

    Raises:
        DataError: its teachers tell different ones apart, or nothing names a teacher's.
    """
    named = [classes_of(config, data, section) for section in config.teachers_of(student) or (None,)]
    if len(set(named)) > 1:
        names = ", ".join(section.name for section in config.teachers_of(student))
        raise DataError(f"student {student.name!r}: teachers {names} have different classes; their mean means nothing")
    return named[0]


def evaluation_of(config: Config, student: Student, backend: Backend) -> EvaluationSet | None:
    """What a student is evaluated on, if anything."""
    if not config.data.evaluates:
        return None
    return EvaluationSet(
        Dataset(config.eval_place),
        student.size,
        config.data.eval_crop,
        batch_size=student.batch_size,
        backend=backend,
        threads=threads_of(config),
        resize=config.data.eval_resize,
        to=own_device(),
        within=config.render.encoded,
    )


def teachers_on_evaluation_set(config: Config, student: Student, cache: Cache) -> torch.Tensor | None:
    """The mean of its teachers' logits, float32 [sample, class]; None unless the cache has all of them.

    Raises:
        StoreError: they are of another evaluation set.
    """
    sections = config.teachers_of(student)
    if not sections or not config.data.evaluates:
        return None
    found = []
    for section in sections:
        record = cache.ledger.get(evaluation_task(section.name)) if section.name in cache.teachers else None
        if record is None:
            return None
        teacher = cache.teacher(section.name)
        if record.fingerprint != fingerprint_digest(on_evaluation_set(config, teacher.info.fingerprint)):
            raise StoreError(
                f"teacher {section.name!r} has logits of another evaluation set, data.eval_crop or data.eval_resize; "
                "run `stillroom teacher` again"
            )
        found.append(torch.from_numpy(teacher.evaluation()))
    shares = torch.tensor(student.teacher_weights or [1.0] * len(found))
    return torch.einsum("t,tsc->sc", shares / shares.sum(), torch.stack(found)) if len(found) > 1 else found[0]


def faithfulness_of(config: Config, student: Student, cache: Cache) -> dict[str, Faithfulness]:
    """What the cache is worth at a student's temperature, by teacher; nothing for one that does not learn from it."""
    if student.target != "cache":
        return {}
    sections = config.teachers_of(student)
    return {item.name: faithfulness(cache.teacher(item.name), student.temperature) for item in sections}


def _target(config: Config, student: Student, data: Dataset) -> Target:
    if student.target == "cache":
        return from_cache(student.temperature)
    if student.target == "labels":
        return from_labels
    (section,) = config.teachers_of(student)
    return from_teacher(load_teacher(section, classes_of(config, data, section)).ask, student.temperature)


def _backend(config: Config, cache: Cache, *, replays: bool) -> Backend:
    """The cache's own, so that all students see the same pixels; another only where nothing has to match it."""
    if replays and config.render.allow_drift is not None:
        return config.render.allow_drift
    if config.render.backend != "auto":
        return config.render.backend
    made_by: Backend = cache.info.views["renderer"]["backend"]
    return made_by if replays else backend_at_hand(made_by, config.views.recipe)
