"""Estimate: what a teacher's whole run would take, before it is run: bytes, objects, hours, and error, for every codec.

Asks the pilot, which is kept, and times a probe, of which nothing is kept; plans may be far larger than the machine.
"""

import os
from dataclasses import asdict, replace
from typing import Any

import torch

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.executor import Executor, execute
from stillroom.stages.run.progress import Progress
from stillroom.stages.run.registry import stage_named
from stillroom.stages.run.stage import Stage
from stillroom.stages.teacher import pilot
from stillroom.stages.teacher.preprocessing_notes import notes
from stillroom.stages.teacher.seeds import open_cache
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import SEEDS_TASK, pilot_task
from stillroom.storage.dataset.dataset import Dataset, shard_name
from stillroom.storage.errors import ConfigError
from stillroom.storage.writers.pilot import read_pilot, read_transform

from .forecast import Forecast, Known, Plan, forecast
from .measurements import Probe
from .probe import probe

_TIMES = (0.5, 1, 2)


def estimate(
    config: Config, executor: Executor, progress: Progress, samples: int | None = None, views: int | None = None
) -> dict[str, Any]:
    """Measure, and predict the config's plan, and half and double its views.

    Data and seeds are made where they are missing; they are needed in any case.

    Args:
        config: of the run.
        executor, progress: for what is made.
        samples, views: of the plan, instead of the config's.

    Raises:
        ConfigError: there is no teacher, or the plan is no plan.
    """
    if not config.teacher:
        raise ConfigError("estimate predicts what a teacher takes, and the config has no [[teacher]]; add one")
    for name, value in (("--samples", samples), ("--views", views)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; give a whole number above 0")
    for name in ("ingest", "seeds"):
        execute(stage_named(name), config, executor, progress)
    execute(_pilots(), config, executor, progress)
    data = Dataset(config.data_place)
    cache = open_cache(config, data, writing=True)
    teachers = []
    plans: list[dict[str, Any]] = []
    for section in config.teacher:
        model = read_transform(cache, section.name)
        with progress.stage(f"probe of {section.name}", "views", 0):
            found = probe(config, section, cache, data, model, progress.advance)
        known = _known(cache, section, len(model.to_text()))
        forecasts = [_forecasts(_plan(config, data, section, samples, views, times), found, known) for times in _TIMES]
        plans = [_joined(*pair) for pair in zip(plans, forecasts, strict=True)] if plans else forecasts
        teachers.append(_teacher(section, cache, found))
    return {"run": config.run.name, "machine": _machine(), "teachers": teachers, "plans": plans, "notes": notes(config)}


def _pilots() -> Stage:
    """The teacher stage's own pilots, whatever the codec."""

    def tasks(config: Config) -> list[Any]:
        sizes = Dataset(config.data_place).sizes
        return [pilot.task_of(config, section, sizes) for section in config.teacher]

    return replace(stage_named("teacher"), tasks=tasks)


def _plan(
    config: Config, data: Dataset, section: Teacher, samples: int | None, views: int | None, times: float
) -> Plan:
    """The plan with so many times its views, in whole blocks."""
    block = config.views.views_per_block
    wanted = (views or config.views.count) * times
    slots, shards = max(data.sizes), len(data.sizes)
    if samples is not None and samples != data.samples:
        # Data shards that ingest writes are of the size that the config asks for; existing tars as those at hand.
        written = data.description.shards[0] == shard_name(data.description.numbers[0])
        slots = config.data.samples_per_shard if written else slots
        shards = -(-samples // slots)
    return Plan(
        samples=samples or data.samples,
        views=max(1, int(-(-wanted // block))) * block,
        slots=min(slots, samples or slots),
        shards=shards,
        views_per_block=block,
        classes=len(classes_of(config, data, section)),
        evaluation=Dataset(config.eval_place).samples if config.data.evaluates else 0,
        canaries=config.cache.canaries,
        plain=config.cache.plain,
    )


def _known(cache: Cache, section: Teacher, model: int) -> Known:
    ledger = cache.ledger
    seeds, asked = ledger.get(SEEDS_TASK), ledger.get(pilot_task(section.name))
    assert seeds is not None
    assert asked is not None
    logits = sum(item.size for name, item in asked.objects.items() if "/logits/c/" in name)
    rows, classes = read_pilot(cache, section.name).logits.shape
    return Known(
        seeds_shards=cache.layout.shards,
        seeds_metadata=sum(item.size for name, item in seeds.objects.items() if name.endswith("zarr.json")),
        seeds_record=cache.place.size(ledger.name(SEEDS_TASK)) or 0,
        pilot=sum(item.size for item in asked.objects.values()),
        pilot_record=cache.place.size(ledger.name(asked.task)) or 0,
        pilot_objects=len(asked.objects),
        pilot_share=logits / (4 * rows * classes),
        model=model,
    )


def _forecasts(plan: Plan, found: Probe, known: Known) -> dict[str, Any]:
    chosen = forecast(plan, found, known, found.codec)
    every = {name: forecast(plan, found, known, name).total for name in found.tried}
    return {
        "samples": plan.samples,
        "views": plan.views,
        "shards": plan.shards,
        "blocks": plan.blocks,
        "bytes": {**chosen.bytes, "total": chosen.total},
        "bytes_by_codec": every,
        "objects": chosen.objects,
        "seconds": round(chosen.seconds, 1),
        _hours_name(): round(_hours(chosen), 4),
    }


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two teachers of one plan. The cache's own seeds and metadata are counted once for each: a few bytes a sample."""
    added = {
        name: {key: value + second[name][key] for key, value in first[name].items()}
        for name in ("bytes", "bytes_by_codec")
    }
    summed = {name: first[name] + second[name] for name in ("blocks", "objects", "seconds", _hours_name())}
    return {**first, **added, **summed}


def _teacher(section: Teacher, cache: Cache, found: Probe) -> dict[str, Any]:
    record = cache.ledger.get(pilot_task(section.name))
    assert record is not None
    return {
        "name": section.name,
        "codec": found.codec,
        "views_per_second": round(found.views / found.seconds, 3),
        "probe": {
            "views": found.views,
            "seconds": round(found.seconds, 3),
            "startup_seconds": round(found.startup, 3),
            "parts": [asdict(part) for part in found.parts],
        },
        "pilot": {key: value for key, value in record.facts.items() if key != "made_from"},
        "codecs": [{**tried.lost, "views_per_second": round(tried.rate, 1)} for tried in found.tried.values()],
    }


def _machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {"device": gpu or f"{cores} CPU cores", "cores": cores, "gpu": gpu}


def _hours_name() -> str:
    return "gpu_hours" if torch.cuda.is_available() else "core_hours"


def _hours(found: Forecast) -> float:
    """Of the GPU, or of all the cores that this process may use."""
    each = 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))
    return found.seconds / 3600 * each
