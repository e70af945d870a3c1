"""One student in training: its trainer, its figures, its checkpoints, and what is left of it in the end.

Of several ranks, only the first one writes and evaluates.
"""

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.models.factory import weights_file
from stillroom.pipeline.replay.batch import Batch
from stillroom.pipeline.teacher.evaluation import EvaluationSet
from stillroom.pipeline.train.step import Step
from stillroom.stages.run.places import RESULT, STUDENT_TASK, WEIGHTS
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, ModelError
from stillroom.storage.ledger.fingerprint import Fingerprint, fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record

from .build import faithfulness_of, student_classes, teachers_on_evaluation_set, trainer_of
from .checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from .drift import drift_of
from .metrics import METRICS, Metrics
from .provenance import refuse_other_student

_LOG_STEPS = 20


class Session:
    """A student between its first step, or its last checkpoint, and its last.

    Args:
        config, student: which.
        data: what it learns from.
        cache: its views, and its teachers'.
        fingerprint: what it is made from.
        epoch_steps: global batches in an epoch.
        evaluation: what it is evaluated on, if anything.
        ranks: who trains it.

    Raises:
        FingerprintError: there is a checkpoint of a student that was trained otherwise.
        DamagedObjectError: there is one that is not what was written.
        ConfigError: this rank does not see the checkpoint that the first one sees.
    """

    def __init__(
        self,
        config: Config,
        student: Student,
        data: Dataset,
        cache: Cache,
        fingerprint: Fingerprint,
        epoch_steps: int,
        evaluation: EvaluationSet | None,
        ranks: Ranks,
    ) -> None:
        self.student = student
        self._classes = student_classes(config, student, data)
        self.facts: Mapping[str, Any] | None = None
        self._epoch_steps = epoch_steps
        self._fingerprint = fingerprint
        self._place = config.student_place(student)
        self.trainer = trainer_of(config, student, data, epoch_steps * student.epochs, ranks)
        spent, self._proved, lines = self._restore()
        if (first := ranks.broadcast(self.step)) != self.step:
            raise ConfigError(
                f"rank {ranks.rank} finds student {student.name!r} at step {self.step} and the first rank at step "
                f"{first}; {self._place} must be a folder that all ranks share"
            )
        self._writes = ranks.first
        if self._writes:
            self._evaluation = evaluation
            self._teacher = teachers_on_evaluation_set(config, student, cache)
            self._faithful = faithfulness_of(config, student, cache)
            self._drift = drift_of(config, student, cache)
        self._lines = lines
        self._metrics: Metrics | None = None
        self._within_step = False
        self._coming: deque[Step] = deque()
        self._started = time.perf_counter() - spent
        self._saved = time.monotonic()
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        if self._writes:
            self._metrics = self._opened.enter_context(Metrics(self._place, self.step, self._lines))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def step(self) -> int:
        """Steps that are done."""
        return self.trainer.step

    @property
    def trained(self) -> bool:
        """Whether its last step is done."""
        return self.step >= self.trainer.steps

    def take(self, batch: Batch) -> None:
        """One step on this rank's share of a global batch."""
        self._within_step = True
        step = self.trainer.train(batch)
        self._within_step = False
        self._coming.append(step)
        self._note(1 if step.late else 0)
        if self._metrics is None:
            return
        if time.monotonic() - self._saved >= 60 * self.student.checkpoint_minutes:
            self.keep()
            self._saved = time.monotonic()

    def _note(self, left: int = 0) -> None:
        """Note what steps did, of all but the last few, whose figures may be on their way from the device."""
        while len(self._coming) > left:
            step = self._coming.popleft()
            self._proved += step.proved
            done = step.number + 1
            if self._metrics is not None and (done % _LOG_STEPS == 0 or done >= self.trainer.steps):
                self._metrics.log("train", done, loss=step.loss, gradient=step.gradient, rate=step.rate)

    def _settle(self) -> None:
        """Wait until all steps are known to be done, and note what they did.

        Raises:
            ModelError: the last one failed.
        """
        try:
            self.trainer.settle()
        except ModelError:
            self._within_step = True  # nothing is kept then, as where the step itself finds it
            raise
        self._note()

    def evaluate(self) -> None:
        """Between two epochs: note how good it is, if that is due and not noted yet.

        Raises:
            ModelError: the last step failed.
        """
        self._settle()
        if self._metrics is None or self._evaluation is None or not self.step or self.step % self._epoch_steps:
            return
        due = self.step // self._epoch_steps % self.student.eval_epochs == 0 or self.trained
        if due and not self._metrics.at("eval", self.step):
            labelled = self._classes == self._evaluation.data.classes
            logits = self._evaluation.logits(self.trainer.predict)
            accuracy = self._evaluation.accuracy(logits, self._teacher, labelled=labelled)
            self._metrics.log("eval", self.step, top1=accuracy.top1, top5=accuracy.top5, kl=accuracy.kl)

    def keep(self) -> None:
        """Write a checkpoint, unless the weights may be half way from one step to the next."""
        if self._metrics is None or self._within_step or self.facts is not None:
            return
        self._settle()
        self._metrics.flush()
        about = {
            "made_from": json.dumps(dict(self._fingerprint)),
            "metrics": json.dumps(self._metrics.lines),
            "seconds": time.perf_counter() - self._started,
            "proved": self._proved,
        }
        save_checkpoint(self._place, {**self.trainer.state(), **about})

    def finish(self) -> None:
        """Weights with what they need to be used as a teacher, then the record, then no checkpoint any more."""
        self._settle()
        figures = self._metrics.at("eval", self.step) if self._metrics is not None else {}
        facts: dict[str, Any] = {
            "epochs": self.student.epochs,
            "steps": self.trainer.steps,
            "seconds": round(time.perf_counter() - self._started, 3),
            "proved": self._proved,
            **{name: round(value, 6) for name, value in figures.items()},
        }
        self._opened.close()
        if self._writes:
            if self._faithful:
                facts["faithful"] = {name: found.facts() for name, found in self._faithful.items()}
            if self._drift:
                facts["drift"] = {name: found.facts() for name, found in self._drift.items()}
            self._write(facts)
        self.facts = facts
        if self._writes:
            self._place.delete(CHECKPOINT)

    def _write(self, facts: Mapping[str, Any]) -> None:
        place = self._place
        about = {
            "model": self.student.model,
            "classes": json.dumps(self._classes, ensure_ascii=False),
            "mean": json.dumps(self.trainer.preprocessing.mean),
            "std": json.dumps(self.trainer.preprocessing.std),
        }
        objects = {
            WEIGHTS: weights_file(self.trainer.trained.state_dict(), about),
            RESULT: json.dumps({**facts, "made_from": self._fingerprint}, indent=1).encode() + b"\n",
        }
        written = {name: ObjectDigest.by_writing(place, name, data) for name, data in objects.items()}
        written[METRICS] = ObjectDigest.of(place.read(METRICS))
        of = fingerprint_digest(self._fingerprint)
        Ledger(place).put(Record(STUDENT_TASK, of, written, {**facts, "made_from": dict(self._fingerprint)}))

    def _restore(self) -> tuple[float, int, Sequence[dict[str, Any]]]:
        """Go on from the last checkpoint, if there is one.

        Returns:
            Seconds that were spent, views that were proved, and figures that were noted, before it.
        """
        state = load_checkpoint(self._place)
        if state is None:
            return 0.0, 0, ()
        refuse_other_student(self._place, json.loads(state["made_from"]), self._fingerprint)
        self.trainer.restore(state)
        return float(state["seconds"]), int(state["proved"]), json.loads(state["metrics"])
