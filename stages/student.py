"""Students: trained from the cache, with a teacher in the loop, or on labels; resumed where they stopped.

One task per student. Its weights, its figures and what it was made from are left under its own place.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..pipeline.config import Config
from ..pipeline.evaluation import EvaluationSet
from ..pipeline.faithful import Faithfulness, faithfulness
from ..pipeline.models import build_model, preprocessing_of, read_weights, start_from, weights_digest, weights_file
from ..pipeline.render import Backend
from ..pipeline.replay import ReplayLoader
from ..pipeline.settings import Student, Teacher
from ..pipeline.teach import default_device, load_teacher
from ..pipeline.trainer import Target, Trainer, from_cache, from_labels, from_teacher, with_labels
from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.errors import MissingObjectError, StoreError
from ..storage.fingerprint import Fingerprint, fingerprint_digest, refuse_difference
from ..storage.layout import evaluation_task
from ..storage.ledger import Ledger, Record, Written
from ..storage.place import Place
from .checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from .classes import classes_of
from .machine import backend_of, threads_of
from .metrics import METRICS, Metrics
from .places import RESULT, STUDENT_TASK, WEIGHTS
from .seeds import open_cache
from .stage import Advance, Home, Stage, Task
from .stop import Stopped
from .teacher import on_evaluation_set

_LOG_STEPS = 20
_NOT_IDENTITY = {"name", "dir", "eval_epochs", "checkpoint_minutes", "proof_share"}


def tasks(config: Config) -> Sequence[Task]:
    """One for each student."""
    samples = Dataset(config.data_place).samples
    return [
        Task(student.name, 0, samples // student.batch_size * student.batch_size * student.epochs)
        for student in config.student
    ]


def done(config: Config) -> Callable[[Task], bool]:
    """Whether a student is trained.

    Raises:
        FingerprintError: a student of that name was trained otherwise.
    """

    def check(task: Task) -> bool:
        student = _student(config, task)
        place = config.student_place(student)
        record = Ledger(place).get(STUDENT_TASK)
        if record is None:
            return False
        cache = open_cache(config, Dataset(config.data_place), writing=False)
        _refuse_other_student(place, record.facts["made_from"], _fingerprint(config, student, cache))
        return True

    return check


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Train one student to the end."""
    student = _student(config, task)
    data = Dataset(config.data_place)
    cache = open_cache(config, data, writing=False)
    fingerprint = _fingerprint(config, student, cache)
    place = config.student_place(student)
    if student.target == "cache":
        _refuse_gaps(config, student, cache)
    loader = _loader(config, student, cache, data)
    trainer = _trainer(config, student, data, loader.steps * student.epochs)
    spent, proved, lines = _restore(trainer, place, fingerprint)
    advance(trainer.step * student.batch_size)
    evaluation = _evaluation(config, student, loader.backend)
    teacher = _teacher_on_evaluation_set(config, student, cache)
    started = time.perf_counter() - spent
    with Metrics(place, trainer.step, lines) as metrics:

        def keep() -> None:
            _save(trainer, place, fingerprint, metrics, time.perf_counter() - started, proved)

        saved = time.monotonic()
        within_step = False
        try:
            while True:
                epoch, first = divmod(trainer.step, loader.steps)
                due = not first and (epoch % student.eval_epochs == 0 or trainer.step == trainer.steps)
                if evaluation is not None and trainer.step and due and not metrics.at("eval", trainer.step):
                    accuracy = evaluation.accuracy(evaluation.logits(trainer.predict), teacher)
                    metrics.log("eval", trainer.step, top1=accuracy.top1, top5=accuracy.top5, kl=accuracy.kl)
                if trainer.step >= trainer.steps:
                    break
                for batch in loader.epoch(epoch, first):
                    within_step = True
                    step = trainer.train(batch)
                    within_step = False
                    proved += batch.proved
                    if trainer.step % _LOG_STEPS == 0 or trainer.step == trainer.steps:
                        metrics.log("train", trainer.step, loss=step.loss, gradient=step.gradient, rate=step.rate)
                    if time.monotonic() - saved >= 60 * student.checkpoint_minutes:
                        keep()
                        saved = time.monotonic()
                    advance(len(batch))
        except Stopped:
            if not within_step:  # else the weights may be half way from one step to the next
                keep()
            raise
        figures = metrics.at("eval", trainer.steps)
    faithful = _faithfulness(config, student, cache)
    facts = {
        "epochs": student.epochs,
        "steps": trainer.steps,
        "seconds": round(time.perf_counter() - started, 3),
        "proved": proved,
        **{name: round(value, 6) for name, value in figures.items()},
        **({"faithful": faithful.facts()} if faithful is not None else {}),
    }
    _finish(trainer, place, classes_of(config, data, config.teacher_of(student)), fingerprint, facts)
    return facts


def notes(config: Config) -> Sequence[str]:
    """What students who are not trained yet should be told of their temperatures."""
    try:
        cache = open_cache(config, Dataset(config.data_place), writing=False)
        check = done(config)
        left = [_student(config, task) for task in tasks(config) if not check(task)]
        found = [(student.name, _faithfulness(config, student, cache)) for student in left]
    except MissingObjectError:
        return []  # the stage itself says what is missing
    return [f"{name}: {faithful.note}" for name, faithful in found if faithful is not None and faithful.note]


def _faithfulness(config: Config, student: Student, cache: Cache) -> Faithfulness | None:
    """What the cache is worth at a student's temperature; None for one that does not learn from it."""
    section = config.teacher_of(student)
    if student.target != "cache" or section is None:
        return None
    return faithfulness(cache.teacher(section.name), student.temperature)


def _student(config: Config, task: Task) -> Student:
    return next(student for student in config.student if student.name == task.name)


def _fingerprint(config: Config, student: Student, cache: Cache) -> Fingerprint:
    """What a student's weights depend on."""
    section = config.teacher_of(student)
    made: dict[str, Any] = {
        "student": {
            **student.model_dump(mode="json", exclude=_NOT_IDENTITY),
            "teacher": section.name if section is not None and student.target != "labels" else None,
        },
        "views": {key: value for key, value in cache.info.views.items() if key != "renderer"},
        "views.count": config.views.count,
    }
    if student.target == "cache" and section is not None:
        info = cache.teacher(section.name).info
        made["teacher"] = {**info.fingerprint, **info.encoding}
    if student.weights is not None:
        made["student"]["weights"] = weights_digest(student.weights) if Path(student.weights).is_file() else "absent"
    if student.target == "online" and section is not None:
        stated = section.model_dump(mode="json", exclude={"name", "batch_size"})
        made["teacher"] = {**stated, "weights": weights_digest(section.weights)} if _at_hand(section) else stated
    return made


def _at_hand(section: Teacher) -> bool:
    return Path(section.weights).is_file()


def _refuse_other_student(place: Place, stored: Fingerprint, wanted: Fingerprint) -> None:
    refuse_difference(
        f"student {place}", stored, wanted, "go back to the old setting, or give the new student another name"
    )


def _refuse_gaps(config: Config, student: Student, cache: Cache) -> None:
    section = config.teacher_of(student)
    assert section is not None
    teacher = cache.teacher(section.name)
    missing = teacher.missing(config.views.count) if teacher.views >= config.views.count else []
    if teacher.views < config.views.count or missing:
        where = f"; first data shard {missing[0][0]}, block {missing[0][1]}" if missing else ""
        raise MissingObjectError(
            f"the cache holds too few views of teacher {section.name!r} for student {student.name!r}: "
            f"{teacher.views} of {config.views.count} are laid out, {len(missing)} blocks are missing{where}; "
            "run `stillroom teacher` first"
        )


def _loader(config: Config, student: Student, cache: Cache, data: Dataset) -> ReplayLoader:
    section = config.teacher_of(student)
    replayed = student.target == "cache" and section is not None
    backend: Backend | None = None
    if config.render.backend != "auto" or not replayed:
        backend = backend_of(config)
    return ReplayLoader(
        cache,
        data=data,
        batch_size=student.batch_size,
        size=student.size,
        seed=student.seed,
        teacher=section.name if replayed and section is not None else "",
        views=config.views.count,
        also_size=section.size if student.target == "online" and section is not None else None,
        window=student.lane_window,
        proof_share=student.proof_share,
        backend=backend,
        threads=threads_of(config),
    )


def _trainer(config: Config, student: Student, data: Dataset, steps: int) -> Trainer:
    torch.manual_seed(student.seed)
    model = build_model(student.model, len(classes_of(config, data, config.teacher_of(student))))
    weights = read_weights(student.weights) if student.weights is not None else None
    if weights is not None:
        start_from(model, student.model, weights)
    preprocessing = preprocessing_of(model, weights)
    model = model.to(default_device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Trainer(
        model, preprocessing, student, steps, with_labels(_target(config, student, data), student.label_weight)
    )


def _target(config: Config, student: Student, data: Dataset) -> Target:
    if student.target == "cache":
        return from_cache(student.temperature)
    if student.target == "labels":
        return from_labels
    section = config.teacher_of(student)
    assert section is not None
    return from_teacher(load_teacher(section, classes_of(config, data, section)), student.temperature)


def _evaluation(config: Config, student: Student, backend: Backend) -> EvaluationSet | None:
    if not config.data.evaluates:
        return None
    return EvaluationSet(
        Dataset(config.eval_place),
        student.size,
        config.data.eval_crop,
        batch_size=student.batch_size,
        backend=backend,
        threads=threads_of(config),
    )


def _teacher_on_evaluation_set(config: Config, student: Student, cache: Cache) -> torch.Tensor | None:
    section = config.teacher_of(student)
    if section is None or not config.data.evaluates or section.name not in cache.teachers:
        return None
    teacher = cache.teacher(section.name)
    record = cache.ledger.get(evaluation_task(section.name))
    if record is None:
        return None
    if record.fingerprint != fingerprint_digest(on_evaluation_set(config, teacher.info.fingerprint)):
        raise StoreError(
            f"teacher {section.name!r} has logits of another evaluation set or data.eval_crop; "
            "run `stillroom teacher` again"
        )
    return torch.from_numpy(teacher.evaluation())


def _save(
    trainer: Trainer, place: Place, fingerprint: Fingerprint, metrics: Metrics, seconds: float, proved: int
) -> None:
    metrics.flush()
    about = {
        "made_from": json.dumps(dict(fingerprint)),
        "metrics": json.dumps(metrics.lines),
        "seconds": seconds,
        "proved": proved,
    }
    save_checkpoint(place, {**trainer.state(), **about})


def _restore(trainer: Trainer, place: Place, fingerprint: Fingerprint) -> tuple[float, int, Sequence[dict[str, Any]]]:
    """Go on from the last checkpoint, if there is one.

    Returns:
        Seconds that were spent, views that were proved, and figures that were noted, before it.

    Raises:
        FingerprintError: it is of a student that was trained otherwise.
        DamagedObjectError: it is not what was written.
    """
    state = load_checkpoint(place)
    if state is None:
        return 0.0, 0, ()
    _refuse_other_student(place, json.loads(state["made_from"]), fingerprint)
    trainer.restore(state)
    return float(state["seconds"]), int(state["proved"]), json.loads(state["metrics"])


def _finish(
    trainer: Trainer, place: Place, classes: tuple[str, ...], fingerprint: Fingerprint, facts: Mapping[str, Any]
) -> None:
    """Weights with what they need to be used as a teacher, then the record, then no checkpoint any more."""
    about = {
        "model": trainer.settings.model,
        "classes": json.dumps(classes, ensure_ascii=False),
        "mean": json.dumps(trainer.preprocessing.mean),
        "std": json.dumps(trainer.preprocessing.std),
    }
    objects = {
        WEIGHTS: weights_file(trainer.trained.state_dict(), about),
        RESULT: json.dumps({**facts, "made_from": fingerprint}, indent=1).encode() + b"\n",
    }
    for name, data in objects.items():
        place.write(name, data)
    written = {name: Written.of(data) for name, data in objects.items()}
    written[METRICS] = Written.of(place.read(METRICS))
    Ledger(place).put(
        Record(STUDENT_TASK, fingerprint_digest(fingerprint), written, {**facts, "made_from": dict(fingerprint)})
    )
    place.delete(CHECKPOINT)


def home(config: Config, task: Task) -> Home:
    """Under the student's own place."""
    return Home(config.student_place(_student(config, task)), STUDENT_TASK, STUDENT_TASK)


STAGE = Stage("student", "views", tasks, done, run, home=home, resumable=True, notes=notes)
