"""The drift of students that render on another backend than their cache's, where the config allows it by name."""

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.models.weights.location import at_hand
from stillroom.pipeline.render.backend import Backend
from stillroom.pipeline.teacher.backend_drift import Drift, measure_drift
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.resources import threads_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset


def other_backend(config: Config, student: Student, cache: Cache) -> Backend | None:
    """The backend that a student who replays is allowed to render on, if it is not the cache's own."""
    allowed = config.render.allow_drift
    if student.target != "cache" or allowed == cache.info.views["renderer"]["backend"]:
        return None
    return allowed


def drift_of(config: Config, student: Student, cache: Cache) -> dict[str, Drift]:
    """By teacher; nothing for a student that renders as its cache was rendered.

    Raises:
        ConfigError: the cache has no canaries to measure it on.
    """
    backend = other_backend(config, student, cache)
    if backend is None:
        return {}
    data = Dataset(config.data_place)
    found = {}
    for section in config.teachers_of(student):
        here = at_hand(section) is not None
        model = load_teacher(section, classes_of(config, data, section)) if here else None
        teacher = cache.teacher(section.name)
        found[section.name] = measure_drift(cache, data, teacher, backend, threads_of(config), model)
    return found
