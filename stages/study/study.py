"""A study on your own images: designs, labels, view counts, temperatures and codecs, over seeds, in a given time.

It is made of ordinary runs, whose configurations and students stay where they are; a study that is stopped goes on.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.stages.report.page import as_toml
from stillroom.stages.run.executor import Executor, execute
from stillroom.stages.run.places import STUDENT_TASK
from stillroom.stages.run.progress import Progress, duration
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.ledger.ledger import Ledger

from .arms import CACHES, PLAIN, arms_of
from .budget import (
    LEAST_VIEWS,
    Book,
    Wishes,
    cache_config,
    measure,
    student_epochs,
    teacher_config,
    teacher_epochs,
    views_count,
)
from .page import Setup, page, text
from .results import Result, result_of

PAGE = "study.html"


class Study:
    """A study in a folder.

    Args:
        wishes: what is asked.
        executor: runs the tasks.
        progress: told of them.
    """

    def __init__(self, wishes: Wishes, executor: Executor, progress: Progress) -> None:
        self.wishes, self.executor, self.progress = wishes, executor, progress
        wishes.refuse_nonsense()
        self.folder = Path(wishes.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.book = Book(self.folder)
        self.book.open(wishes)

    def run(self) -> list[str]:
        """Do what is left, and write the page.

        Returns:
            Its table and findings, for a terminal.
        """
        epochs, views = self._begun()
        teacher = teacher_config(self.wishes, epochs)
        self._stages(teacher, "student")
        for name in CACHES:
            self._stages(self._cache(name, views, 1), "ingest", "seeds", "teacher")
        data = Dataset(teacher.data_place)
        if self.book.decided("epochs") is None:
            # Measured once more: other work on the machine may have come or gone since the study began.
            costs = measure(self._cache(PLAIN, views, 1), teacher)
            left = 60 * self.wishes.minutes - self.book.spent
            evaluated = Dataset(teacher.eval_place).samples
            wished = student_epochs(self.wishes, costs, data.samples, evaluated, views, left)
            self.book.note(epochs=wished, costs=asdict(costs))
            self._say(f"{wished} epochs for each of {len(arms_of(views))} students, {self.wishes.seeds} seeds")
        said: list[str] = []
        longest = 0.0
        for seed in range(self.wishes.seeds):
            before = self.book.spent
            if seed and not self._done(seed, views) and before + longest > 60 * self.wishes.minutes:
                self._say(f"no time is left for seed {seed}: one took {duration(longest)}")
                break
            for name in CACHES:
                self._stages(self._cache(name, views, self.book.decided("epochs"), seed), "train-many")
            longest = max(longest, self.book.spent - before)
            said = self._write(views, seed + 1)
        return said

    def _begun(self) -> tuple[int, int]:
        """The teacher's epochs and the number of views, decided once."""
        kept = self.book.decided("begun")
        if kept is None:
            first, teacher = self._cache(PLAIN, LEAST_VIEWS, 1), teacher_config(self.wishes, 1)
            self._stages(first, "ingest", "seeds", note=False)
            costs = measure(first, teacher)
            samples = Dataset(first.data_place).samples
            epochs = teacher_epochs(self.wishes, costs, samples)
            views = views_count(self.wishes, costs, samples)
            kept = {"teacher_epochs": epochs, "views": views}
            self.book.note(begun=kept)
            self._say(f"{epochs} epochs for the teacher, {views} views of each image in {len(CACHES)} caches")
        self._stages(teacher_config(self.wishes, kept["teacher_epochs"]), "ingest", "seeds")
        return kept["teacher_epochs"], kept["views"]

    def _cache(self, name: str, views: int, epochs: int, seed: int | None = None) -> Config:
        seeds = range(self.wishes.seeds) if seed is None else range(seed, seed + 1)
        return cache_config(self.wishes, name, views, epochs, seeds)

    def _stages(self, config: Config, *names: str, note: bool = True) -> None:
        """Run stages, and leave the configuration beside what they make, for whoever wants to run them again."""
        for name in names:
            execute(stage_named(name), config, self.executor, self.progress)
        if note:
            (self.folder / f"{config.run.name}.toml").write_text(as_toml(config) + "\n", encoding="utf-8")
        self.book.note()

    def _done(self, seed: int, views: int) -> bool:
        configs = [self._cache(name, views, self.book.decided("epochs"), seed) for name in CACHES]
        places = [config.student_place(student) for config in configs for student in config.student]
        return all(Ledger(place).has(STUDENT_TASK) for place in places)

    def _write(self, views: int, seeds: int) -> list[str]:
        epochs = self.book.decided("epochs")
        configs = {name: [self._cache(name, views, epochs, seed) for seed in range(seeds)] for name in CACHES}
        results: dict[str, Result] = {}
        for arm in arms_of(views):
            found = result_of(arm, configs[arm.cache])
            if found is not None:
                results[arm.name] = found
        setup = self._setup(views, seeds, configs[PLAIN][0])
        (self.folder / PAGE).write_text(page(setup, results), encoding="utf-8")
        said = text(setup, results)
        (self.folder / "study.txt").write_text("\n".join(said) + "\n", encoding="utf-8")
        return said

    def _setup(self, views: int, seeds: int, config: Config) -> Setup:
        wishes = self.wishes
        begun: Mapping[str, Any] = self.book.decided("begun")
        data, evaluation = Dataset(config.data_place), Dataset(config.eval_place)
        trained = teacher_config(wishes, begun["teacher_epochs"])
        teacher = json.loads(trained.student_place(trained.student[0]).read("result.json"))
        return Setup(
            name=Path(wishes.data).resolve().name,
            samples=data.samples,
            evaluated=evaluation.samples,
            classes=len(data.classes),
            student=wishes.student,
            teacher=wishes.teacher,
            size=wishes.size,
            views=views,
            epochs=self.book.decided("epochs"),
            teacher_epochs=begun["teacher_epochs"],
            teacher_top1=teacher["top1"],
            seeds=seeds,
            wanted=wishes.seeds,
            seconds=self.book.spent,
            bytes_per_view={name: _bytes_per_view(self._cache(name, views, 1)) for name in CACHES},
            machine=f"{len(os.sched_getaffinity(0))} CPU cores" + _gpu(),
        )

    def _say(self, what: str) -> None:
        print(f"study    {what}", file=sys.stderr, flush=True)


def _bytes_per_view(config: Config) -> float:
    """Bytes of logits for each view."""
    cache = Cache(config.cache_place)
    views = sum(cache.layout.sizes) * config.views.count
    found = [
        written.size
        for record in cache.ledger.records("teachers/teacher/blocks")
        for name, written in record.objects.items()
        if "/logits/" in name
    ]
    return sum(found) / views


def _gpu() -> str:
    import torch

    return f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
