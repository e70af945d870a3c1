"""Students: trained from the cache, with a teacher in the loop, or on labels; resumed where they stopped.

One task per student. Its weights, its figures and what it was made from are left under its own place.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.models.weights.digest import missing
from stillroom.pipeline.replay.shared_pass import SharedPass
from stillroom.pipeline.teacher.evaluation import EvaluationSet
from stillroom.stages.run.figure_lines import figure_lines
from stillroom.stages.run.places import STUDENT_TASK, WEIGHTS
from stillroom.stages.run.stage import Advance, RecordLocation, Results, Stage, Task
from stillroom.stages.teacher.seeds import open_cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import MissingObjectError, ModelError, StillroomError
from stillroom.storage.ledger.ledger import Ledger

from .build import evaluation_of, faithfulness_of, pass_of
from .drift import drift_of
from .provenance import refuse_other_student, student_fingerprint
from .session import Session


def tasks(config: Config) -> Sequence[Task]:
    """One for each student."""
    samples = Dataset(config.data_place).samples
    return [Task(student.name, 0, units_of(student, samples)) for student in config.student]


def units_of(student: Student, samples: int) -> int:
    """Views that a student sees in all."""
    return samples // student.batch_size * student.batch_size * student.epochs


def done(config: Config) -> Callable[[Task], bool]:
    """Whether a student is trained.

    Raises:
        FingerprintError: a student of that name was trained otherwise.
    """
    return lambda task: is_trained(config, _student(config, task))


def is_trained(config: Config, student: Student) -> bool:
    """Whether its record is there.

    Raises:
        FingerprintError: a student of that name was trained otherwise.
    """
    place = config.student_place(student)
    record = Ledger(place).get(STUDENT_TASK)
    if record is None:
        return False
    cache = open_cache(config, Dataset(config.data_place), writing=False)
    refuse_other_student(place, record.facts["made_from"], student_fingerprint(config, student, cache))
    return True


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Train one student to the end."""
    student = _student(config, task)
    return train(config, [student], advance)[student.name]


def train(config: Config, students: Sequence[Student], advance: Advance) -> dict[str, Mapping[str, Any]]:
    """Train students to the end from one pass over the data, whose batches and views they must agree on.

    Returns:
        Each one's figures, by name.
    """
    ranks = Ranks.here()
    data = Dataset(config.data_place)
    cache = open_cache(config, data, writing=False)
    shared = pass_of(config, students, cache, data, ranks)
    with ExitStack() as opened:
        sessions = []
        evaluations: dict[int, EvaluationSet | None] = {}
        for student in students:
            if ranks.first and student.size not in evaluations:
                evaluations[student.size] = evaluation_of(config, student, shared.backend)
            made_from = student_fingerprint(config, student, cache)
            session = Session(
                config, student, data, cache, made_from, shared.steps, evaluations.get(student.size), ranks
            )
            sessions.append(opened.enter_context(session))
            advance(session.step * student.batch_size)
        try:
            _teach(sessions, shared, advance)
        except BaseException:  # whatever it is: a stop, Ctrl-C, a bad data shard, one student that diverges
            for session in sessions:
                _keep(session)
            raise
    return {session.student.name: session.facts for session in sessions if session.facts is not None}


def _keep(session: Session) -> None:
    """Save a student on the way out; the error that is on its way must not be hidden by one of saving."""
    try:
        session.keep()
    except (OSError, StillroomError) as error:
        name = session.student.name
        print(f"stillroom: student {name!r} goes on from its last checkpoint; saving failed: {error}", file=sys.stderr)


def _teach(sessions: Sequence[Session], shared: SharedPass, advance: Advance) -> None:
    """Give every session the batches that it has not had; those that are further on wait for the others."""
    while True:
        for session in sessions:
            session.evaluate()
            if session.trained and session.facts is None:
                session.finish()
        left = [session.step for session in sessions if not session.trained]
        if not left:
            return
        epoch, first = divmod(min(left), shared.steps)
        for step, batches in enumerate(shared.epoch(epoch, first), min(left)):
            for session, batch in zip(sessions, batches, strict=True):
                if session.step == step and not session.trained:
                    session.take(batch)
                    advance(session.student.batch_size)


def notes(config: Config) -> Sequence[str]:
    """What students who are not trained yet should be told of their temperatures, and of another backend's views."""
    try:
        cache = open_cache(config, Dataset(config.data_place), writing=False)
        left = [student for student in config.student if not is_trained(config, student)]
        found = [(student.name, item) for student in left for item in faithfulness_of(config, student, cache).values()]
    except MissingObjectError:
        return []  # the stage itself says what is missing
    drifts = [(student.name, item) for student in left for item in drift_of(config, student, cache).values()]
    told = [f"{name}: {faithful.note}" for name, faithful in found if faithful.note]
    return told + [f"{name}: {drift.note}" for name, drift in drifts]


def homes(config: Config, task: Task) -> Sequence[RecordLocation]:
    """Under the student's own place."""
    return [home_of(config, _student(config, task))]


def home_of(config: Config, student: Student) -> RecordLocation:
    """Where a student's record goes."""
    return RecordLocation(config.student_place(student), STUDENT_TASK, STUDENT_TASK)


def _student(config: Config, task: Task) -> Student:
    return next(student for student in config.student if student.name == task.name)


def details(results: Results, concluded: Mapping[str, Any] | None) -> Sequence[str]:  # noqa: ARG001
    """How good each student is on the evaluation set."""
    return figure_lines(results, ("top1", "top5", "kl"))


def look_ahead(config: Config, fetches: bool) -> None:  # noqa: ARG001
    """Refuse students that are to start from weights that are not there, and that no student of this run leaves.

    Raises:
        ModelError: names the weights.
    """
    left_here = {config.student_place(student).local(WEIGHTS) for student in config.student}
    for student in config.student:
        if student.weights is None or Path(student.weights).is_file() or Path(student.weights) in left_here:
            continue
        if not Ledger(config.student_place(student)).has(STUDENT_TASK):
            raise ModelError(f"student {student.name!r}: {missing(student.weights)}")


STAGE = Stage(
    "student",
    "views",
    tasks,
    done,
    run,
    homes=homes,
    resumable=True,
    notes=notes,
    ranks="together",
    details=details,
    look_ahead=look_ahead,
)
