"""The pilot: the teacher is asked about a few views first, and the transform codec is fitted to its answers.

A task of the teacher stage where the codec is "transform"; `estimate` asks for it whatever the codec. Once a teacher is
laid out with the transform, its pilot stays as it is, however many views are added. What there is to do, and whether it
is done; `pilotwork` does it.
"""

from collections.abc import Mapping
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.config.weights_names import WHOLE
from stillroom.pipeline.models.weights.digest import weights_digest
from stillroom.pipeline.models.weights.location import at_hand
from stillroom.pipeline.teacher.pilot_sample import Drawn, draw_pilot
from stillroom.stages.run.stage import Task
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import pilot_task
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.codecs.registry import TransformModel
from stillroom.storage.ledger.fingerprint import Fingerprint
from stillroom.storage.writers.pilot import read_transform


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
    return Task(pilot_task(section.name), 0, sum(part.rows for part in drawn(config, sizes)))


def is_done(config: Config, section: Teacher, cache: Cache) -> bool:
    """Whether there is a pilot, and a model with this run's settings.

    Where the teacher is laid out with a transform, its own settings were compared with this run's already; the number
    of views, which the draw depends on, may have grown since.
    """
    record = cache.ledger.get(pilot_task(section.name))
    if record is None:
        return False
    if section.name in cache.teachers and kind_of(cache.teacher(section.name).info.codec).fitted:
        return True
    made, asked = record.facts["made_from"], made_from(config, {})
    teacher: dict[str, Any] = {"model": section.model, "size": section.size, "precision": section.precision}
    if (weights := at_hand(section)) is not None:
        teacher["weights"] = weights_digest(weights)
    if section.checkpoint_key not in WHOLE:
        teacher["checkpoint_key"] = section.checkpoint_key
    teacher |= {key: list(value) for key, value in (("mean", section.mean), ("std", section.std)) if value is not None}
    same = all(made["teacher"].get(key) == value for key, value in teacher.items())
    return same and {**made, "teacher": {}} == asked


def fitted(config: Config, section: Teacher, cache: Cache) -> TransformModel | None:
    """The model of a run's codec, from the cache; None where the codec needs none."""
    return read_transform(cache, section.name) if kind_of(config.cache.codec).fitted else None


def drawn(config: Config, sizes: tuple[int, ...]) -> list[Drawn]:
    """Of which views the teacher is asked."""
    cache, views = config.cache, config.views
    return draw_pilot(sizes, cache.pilot_samples, cache.pilot_views, views.count, views.seed)


def made_from(config: Config, teacher: Fingerprint) -> dict[str, Any]:
    """What a pilot and its transform depend on."""
    return {"teacher": dict(teacher), "cache": settings_of(config), "views.count": config.views.count}
