"""Doing the pilot: asking the teacher about a few views, and fitting the transform codec to its answers."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.teacher.pilot_sample import Drawn
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.stage import Advance
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import pilot_task
from stillroom.storage.codecs.registry import fit
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError
from stillroom.storage.ledger.fingerprint import fingerprint_digest
from stillroom.storage.ledger.ledger import Record
from stillroom.storage.writers.pilot import Pilot, read_pilot, write_pilot

from . import pilot
from .worker_cache import loaded_teacher, single_maker

LEAST_ROWS = 20
"""Views below which nothing can be held out to choose the step on."""
GOOD_ROWS = 2000
"""Views below which the fit is said to be of few."""


def run_pilot(config: Config, section: Teacher, cache: Cache, data: Dataset, advance: Advance) -> Mapping[str, Any]:
    """Ask the teacher, fit the transform, keep both.

    Raises:
        ConfigError: there are too few views to fit anything.
        ModelError: a logit is not finite.
    """
    started = time.perf_counter()
    parts = pilot.drawn(config, data.sizes)
    rows = sum(part.rows for part in parts)
    if rows < LEAST_ROWS:
        raise ConfigError(
            f"the pilot of teacher {section.name!r} has {rows} views of {data.samples} samples, and a transform is "
            f"fitted to {LEAST_ROWS} or more; raise views.count, cache.pilot_samples or cache.pilot_views, "
            'or use cache.codec = "float16"'
        )
    teacher = loaded_teacher(section, classes_of(config, data, section))
    made = pilot.made_from(config, teacher.fingerprint)
    there = cache.ledger.get(pilot_task(section.name))
    if there is not None and _same_answers(there, made):
        found = read_pilot(cache, section.name)
        advance(rows)
    else:
        found = _ask(config, section, cache, data, parts, advance)
    asked = time.perf_counter()
    model = fit(found.logits, config.cache.temperatures, config.cache.max_kl, found.groups)
    facts = {
        "rows": len(found.logits),
        "samples": len(np.unique(found.groups)),
        "axes": model.axis_count,
        "model": model.digest,
        "seconds": round(asked - started, 3),
        "fit_seconds": round(time.perf_counter() - asked, 3),
        "made_from": made,
    }
    write_pilot(cache.ledger, section.name, fingerprint_digest(made), found, model, facts)
    few = f"few views for a good fit, which takes {GOOD_ROWS:,} or more; its bound holds, at more bytes"
    return {**facts, **({"note": f"{rows:,} views: {few}"} if rows < GOOD_ROWS else {})}


def _same_answers(there: Record, made: Mapping[str, Any]) -> bool:
    """Whether the answers there would be given again, so that only the fit is to be made anew."""
    fitted_with = ("temperatures", "max_kl")
    mine, theirs = (
        {**item, "cache": {key: value for key, value in item["cache"].items() if key not in fitted_with}}
        for item in (made, there.facts["made_from"])
    )
    return bool(mine == theirs)


def _ask(config: Config, section: Teacher, cache: Cache, data: Dataset, parts: list[Drawn], advance: Advance) -> Pilot:
    maker = single_maker(config, section, classes_of(config, data, section), cache.layout.slots)
    logits, places = [], []
    for part in parts:
        index = data.index(part.shard)
        images, seeds = data.images(part.shard, index, config.render.encoded), cache.seeds(part.shard)
        for view in part.views.tolist():
            logits.append(maker.answer(index, images, seeds, view, part.slots))
            places.append([(part.shard, slot, view) for slot in part.slots.tolist()])
            advance(len(part.slots))
    return Pilot(np.concatenate(logits), np.concatenate(places).astype(np.int32))
