"""The pilot: the teacher is asked about a few views first, and the transform codec is fitted to its answers.

A task of the teacher stage where the codec is "transform"; `estimate` asks for it whatever the codec. Once a teacher is
laid out with the transform, its pilot stays as it is, however many views are added.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..pipeline.config import Config
from ..pipeline.models import weights_digest
from ..pipeline.pilot import Drawn, draw_pilot
from ..pipeline.settings import Teacher
from ..storage.cache import Cache
from ..storage.codecname import TRANSFORM
from ..storage.codecs import TransformModel, fit
from ..storage.dataset import Dataset
from ..storage.errors import ConfigError
from ..storage.fingerprint import Fingerprint, fingerprint_digest
from ..storage.layout import pilot_task
from ..storage.ledger import Record
from ..storage.pilot import Pilot, read_pilot, read_transform, write_pilot
from .classes import classes_of
from .stage import Advance, Task
from .workers import loaded_teacher, single_maker

LEAST_ROWS = 20
"""Views below which nothing can be held out to choose the step on."""
GOOD_ROWS = 2000
"""Views below which the fit is said to be of few."""


def settings_of(config: Config) -> dict[str, Any]:
    """The settings that a transform depends on, by name."""
    cache = config.cache
    return {
        "temperatures": list(cache.temperatures),
        "max_kl": cache.max_kl,
        "pilot_samples": cache.pilot_samples,
        "pilot_views": cache.pilot_views,
    }


def transform_of(config: Config, model: TransformModel) -> Mapping[str, Any]:
    """What a teacher's attributes say of its transform."""
    return {"model": model.digest, "cache": settings_of(config)}


def task_of(config: Config, section: Teacher, sizes: tuple[int, ...]) -> Task:
    """The pilot's task."""
    return Task(pilot_task(section.name), 0, sum(part.rows for part in _drawn(config, sizes)))


def is_done(config: Config, section: Teacher, cache: Cache) -> bool:
    """Whether there is a pilot, and a model with this run's settings.

    Where the teacher is laid out with a transform, its own settings were compared with this run's already; the number
    of views, which the draw depends on, may have grown since.
    """
    record = cache.ledger.get(pilot_task(section.name))
    if record is None:
        return False
    if section.name in cache.teachers and cache.teacher(section.name).info.codec == TRANSFORM:
        return True
    made, asked = record.facts["made_from"], _made_from(config, {})
    teacher: dict[str, Any] = {"model": section.model, "size": section.size, "precision": section.precision}
    if Path(section.weights).is_file():
        teacher["weights"] = weights_digest(section.weights)
    teacher |= {key: list(value) for key, value in (("mean", section.mean), ("std", section.std)) if value is not None}
    same = all(made["teacher"][key] == value for key, value in teacher.items())
    return same and {**made, "teacher": {}} == asked


def run_pilot(config: Config, section: Teacher, cache: Cache, data: Dataset, advance: Advance) -> Mapping[str, Any]:
    """Ask the teacher, fit the transform, keep both.

    Raises:
        ConfigError: there are too few views to fit anything.
        ModelError: a logit is not finite.
    """
    started = time.perf_counter()
    drawn = _drawn(config, data.sizes)
    rows = sum(part.rows for part in drawn)
    if rows < LEAST_ROWS:
        raise ConfigError(
            f"the pilot of teacher {section.name!r} has {rows} views of {data.samples} samples, and a transform is "
            f"fitted to {LEAST_ROWS} or more; raise views.count, cache.pilot_samples or cache.pilot_views, "
            'or use cache.codec = "float16"'
        )
    teacher = loaded_teacher(section, classes_of(config, data, section))
    made = _made_from(config, teacher.fingerprint)
    there = cache.ledger.get(pilot_task(section.name))
    if there is not None and _same_answers(there, made):
        pilot = read_pilot(cache, section.name)
        advance(rows)
    else:
        pilot = _ask(config, section, cache, data, drawn, advance)
    asked = time.perf_counter()
    model = fit(pilot.logits, config.cache.temperatures, config.cache.max_kl, pilot.groups)
    facts = {
        "rows": len(pilot.logits),
        "samples": len(np.unique(pilot.groups)),
        "axes": model.axis_count,
        "model": model.digest,
        "seconds": round(asked - started, 3),
        "fit_seconds": round(time.perf_counter() - asked, 3),
        "made_from": made,
    }
    write_pilot(cache.ledger, section.name, fingerprint_digest(made), pilot, model, facts)
    few = f"few views for a good fit, which takes {GOOD_ROWS:,} or more; its bound holds, at more bytes"
    return {**facts, **({"note": f"{rows:,} views: {few}"} if rows < GOOD_ROWS else {})}


def fitted(config: Config, section: Teacher, cache: Cache) -> TransformModel | None:
    """The model of a run's codec, from the cache; None where the codec needs none."""
    return read_transform(cache, section.name) if config.cache.codec == TRANSFORM else None


def _drawn(config: Config, sizes: tuple[int, ...]) -> list[Drawn]:
    cache, views = config.cache, config.views
    return draw_pilot(sizes, cache.pilot_samples, cache.pilot_views, views.count, views.seed)


def _made_from(config: Config, teacher: Fingerprint) -> dict[str, Any]:
    return {"teacher": dict(teacher), "cache": settings_of(config), "views.count": config.views.count}


def _same_answers(there: Record, made: Mapping[str, Any]) -> bool:
    """Whether the answers there would be given again, so that only the fit is to be made anew."""
    fitted_with = ("temperatures", "max_kl")
    mine, theirs = (
        {**item, "cache": {key: value for key, value in item["cache"].items() if key not in fitted_with}}
        for item in (made, there.facts["made_from"])
    )
    return bool(mine == theirs)


def _ask(config: Config, section: Teacher, cache: Cache, data: Dataset, drawn: list[Drawn], advance: Advance) -> Pilot:
    maker = single_maker(config, section, classes_of(config, data, section), cache.layout.slots)
    logits, places = [], []
    for part in drawn:
        index = data.index(part.shard)
        images, seeds = data.images(part.shard, index, config.render.encoded), cache.seeds(part.shard)
        for view in part.views.tolist():
            logits.append(maker.answer(index, images, seeds, view, part.slots))
            places.append([(part.shard, slot, view) for slot in part.slots.tolist()])
            advance(len(part.slots))
    return Pilot(np.concatenate(logits), np.concatenate(places).astype(np.int32))
