"""A study's plan: how much of everything fits into its time. Measured once, kept, and not changed on resuming."""

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.student.build import pass_of, trainer_of
from stillroom.stages.teacher.seeds import open_cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, DataError

from .arms import CACHES, TEMPERATURE, arms_of, passes_of

_TEACHER_SHARE, _CACHES_SHARE, _STUDENTS_SHARE = 0.15, 0.2, 0.9
"""Of the whole time; of the whole time; and of what is then left."""
LEAST_VIEWS, _MOST_VIEWS, _MOST_TEACHER_EPOCHS, EVALUATIONS = 4, 64, 120, 16
_PROBE_BATCHES = 8
_FORWARD = 1 / 3
"""Of a training step's time, a forward pass, about."""


@dataclass(frozen=True)
class Wishes:
    """What someone asks of a study.

    Attributes:
        data: a folder of class folders, or of such folders named "train" and "val".
        folder: where it is kept.
        minutes: it may take, about.
        seeds: students of each arm at most.
        size: height and width of all views in pixels.
        student, teacher: models.
        batch_size: of all.
    """

    data: str
    folder: str
    minutes: float
    seeds: int
    size: int
    student: str
    teacher: str
    batch_size: int = 64

    def refuse_nonsense(self) -> None:
        """Before anything is written.

        Raises:
            ConfigError: a number is not above 0.
            ModelError: there is no such model.
            DataError: there is no such folder.
        """
        for name in ("minutes", "seeds", "size"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"a study of {getattr(self, name)} {name} is none; give a number above 0")
        _sources(Path(self.data))
        for model in (self.student, self.teacher):
            build_model(model, 2)


@dataclass(frozen=True)
class Costs:
    """Seconds for each image, on this machine as it is while it is measured.

    Attributes:
        view: to decode and draw it.
        teacher, student: to train on it.
    """

    view: float
    teacher: float
    student: float


class Book:
    """What a study has decided and spent, in a file that outlives an interruption."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "study.json"
        self.entries: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._since = time.monotonic()

    def open(self, wishes: Wishes) -> None:
        """Begin, or go on.

        Raises:
            ConfigError: another study is kept there.
        """
        asked = asdict(wishes)
        kept = self.entries.setdefault("wishes", asked)
        for name in asked.keys() - {"minutes"}:
            if kept[name] != asked[name]:
                raise ConfigError(
                    f"{self._path.parent} has a study with {name} = {kept[name]!r}, this one has {asked[name]!r}; "
                    "give it a folder of its own"
                )
        self.note()

    @property
    def spent(self) -> float:
        """Seconds, those before an interruption too."""
        return float(self.entries.get("spent", 0.0)) + time.monotonic() - self._since

    def decided(self, name: str) -> Any:
        """What was decided; None for nothing yet."""
        return self.entries.get(name)

    def note(self, **entries: Any) -> None:
        """Keep decisions, and the time spent."""
        self.entries |= entries
        self.entries["spent"], self._since = self.spent, time.monotonic()
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(self.entries, indent=1) + "\n")
        temporary.replace(self._path)


def measure(config: Config, teacher: Config) -> Costs:
    """Time a few batches of both models.

    Args:
        config: of a run whose first student is the study's; with seeds.
        teacher: of a run whose first student is the teacher.
    """
    data = Dataset(config.data_place)
    cache = open_cache(config, data, writing=False)
    batches, view = [], []
    student = config.student[0]
    before = time.perf_counter()
    for batch in islice(pass_of(config, [student], cache, data, Ranks()).epoch(0), _PROBE_BATCHES):
        batches.append(batch[0])
        view.append((time.perf_counter() - before) / len(batch[0]))
        before = time.perf_counter()
    trained = []
    for item in (teacher, config):
        trainer = trainer_of(item, item.student[0], data, 1000, Ranks())
        seconds = []
        for part in batches:
            before = time.perf_counter()
            trainer.train(part)
            trainer.settle()
            seconds.append((time.perf_counter() - before) / len(part))
        trained.append(statistics.median(seconds[1:] or seconds))
    return Costs(statistics.median(view[1:] or view), *trained)


def teacher_epochs(wishes: Wishes, costs: Costs, samples: int) -> int:
    """Epochs for the teacher."""
    fit = 60 * wishes.minutes * _TEACHER_SHARE / (samples * (costs.view + costs.teacher))
    return int(min(_MOST_TEACHER_EPOCHS, max(1, fit)))


def views_count(wishes: Wishes, costs: Costs, samples: int) -> int:
    """Views of each image in every cache: a power of two, of whole blocks."""
    one = len(CACHES) * samples * (costs.view + _FORWARD * costs.teacher)
    views = LEAST_VIEWS
    while 2 * views <= _MOST_VIEWS and 2 * views * one <= 60 * wishes.minutes * _CACHES_SHARE:
        views *= 2
    return views


def student_epochs(wishes: Wishes, costs: Costs, samples: int, evaluated: int, views: int, seconds: float) -> int:
    """Epochs for each student, so that all seeds of all arms fit into the seconds that are left."""
    arms = arms_of(views)
    evaluating = len(arms) * EVALUATIONS * evaluated * _FORWARD * costs.student
    epoch = samples * (passes_of(arms) * costs.view + len(arms) * costs.student)
    return int(max(1, (seconds * _STUDENTS_SHARE / wishes.seeds - evaluating) / epoch))


def common(wishes: Wishes) -> dict[str, Any]:
    """Settings of every run of a study."""
    folder = Path(wishes.folder)
    data = {**_sources(Path(wishes.data)), "samples_per_shard": 500}
    return {
        "data": {**data, "dir": str(folder / "data"), "eval_dir": str(folder / "eval")},
        "views": {"area": [0.25, 1.0]},
    }


def teacher_config(wishes: Wishes, epochs: int) -> Config:
    """The run that makes the teacher: from labels, each epoch with views of its own."""
    tables = common(wishes)
    tables["run"] = {"name": "teacher", "dir": str(Path(wishes.folder) / "teacher")}
    tables["views"] |= {"count": epochs, "views_per_block": 1, "mixup": False}
    tables["student"] = [{**_student(wishes, epochs), "name": "teacher", "target": "labels", "model": wishes.teacher}]
    return parse_config(tables, "the study's teacher")


def cache_config(wishes: Wishes, name: str, views: int, epochs: int, seeds: Mapping[int, Any] | range) -> Config:
    """The run of one of the study's caches, with the students of some seeds."""
    tables = common(wishes)
    folder = Path(wishes.folder)
    changes = CACHES[name]
    tables["run"] = {"name": f"study-{name}", "dir": str(folder / name)}
    tables["views"] |= {"count": views, "views_per_block": LEAST_VIEWS, **changes["views"]}
    tables["cache"] = dict(changes["cache"])
    weights = folder / "teacher" / "students" / "teacher" / "weights.safetensors"
    tables["teacher"] = [
        {"name": "teacher", "model": wishes.teacher, "weights": str(weights), "size": wishes.size, "batch_size": 64}
    ]
    tables["student"] = [
        {
            **_student(wishes, epochs),
            "temperature": TEMPERATURE,
            **arm.student,
            "name": f"{arm.name}-{seed}",
            "seed": seed,
        }
        for seed in seeds
        for arm in arms_of(views)
        if arm.cache == name
    ]
    return parse_config(tables, f"the study's cache {name!r}")


def _student(wishes: Wishes, epochs: int) -> dict[str, Any]:
    return {
        "model": wishes.student,
        "size": wishes.size,
        "epochs": epochs,
        "eval_epochs": max(1, epochs // EVALUATIONS),
        "batch_size": wishes.batch_size,
        "learning_rate": 2e-3,
    }


def _sources(data: Path) -> dict[str, Any]:
    """Training and evaluation data: two folders that say so, or a fifth of the only one."""
    if not data.is_dir():
        raise DataError(f"{data} is no folder; a study takes a folder of class folders")
    for name in ("val", "test", "eval"):
        if (data / "train").is_dir() and (data / name).is_dir():
            return {"train": str(data / "train"), "eval": str(data / name)}
    return {"train": str(data), "holdout": 0.2}
