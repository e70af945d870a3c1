"""Doing the teacher's tasks: rendering views, asking about them, and writing what it says."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.losses import entropy
from stillroom.pipeline.models.teacher import LoadedTeacher, first_not_finite
from stillroom.pipeline.rng.philox import philox4x32, split
from stillroom.pipeline.rng.seeds import CANARIES
from stillroom.pipeline.teacher.evaluation import EvaluationSet
from stillroom.stages.ingest.class_names import classes_of, labels_count
from stillroom.stages.run.resources import backend_of, threads_of
from stillroom.stages.run.stage import Advance, Task
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import Layout, canary_place, evaluation_task, layout_task, pilot_task
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.index import NO_LABEL
from stillroom.storage.errors import ModelError
from stillroom.storage.writers.block import BlockWriter
from stillroom.storage.writers.teacher import TeacherWriter

from . import pilot, plain_views
from .pilot_work import run_pilot
from .plain_views_work import run_plain
from .seeds import open_cache
from .stage import on_evaluation_set, section_of
from .worker_cache import block_maker, loaded_teacher


def work(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Do one task of the teacher stage."""
    section = section_of(config, task)
    data = Dataset(config.data_place)
    evaluates = task.name == evaluation_task(section.name)
    cache = open_cache(config, data, writing=not evaluates)
    if task.name == pilot_task(section.name):
        return run_pilot(config, section, cache, data, advance)
    classes = classes_of(config, data, section)
    teacher = loaded_teacher(section, classes)
    model = pilot.fitted(config, section, cache)
    there = cache.teacher(section.name).info if section.name in cache.teachers else None
    canaries = there.canaries if there is not None else _canary_slots(config, cache.layout)
    info = TeacherInfo(
        teacher.fingerprint,
        len(classes),
        section.size,
        config.cache.codec,
        canaries,
        pilot.transform_of(config, model) if model is not None else {},
    )
    writer = TeacherWriter(
        cache.ledger,
        cache.layout,
        section.name,
        info,
        cache.info.views,
        config.views.count,
        model,
        config.cache.temperatures,
    )
    if there is not None:
        writer.refuse_other_teacher(there)
    if task.name == layout_task(section.name, config.views.count):
        writer.lay_out()
        return {"views": config.views.count, **({"weights": teacher.note} if teacher.note else {})}
    if plain_views.is_plain(section, task):
        return run_plain(config, writer, data, section, task, advance)
    if evaluates:
        counts = labels_count(config, data, Dataset(config.eval_place), section)
        return _evaluate(config, writer, teacher, advance, labelled=counts)
    return _teach_block(config, cache, data, writer, section, task, advance)


def _teach_block(
    config: Config, cache: Cache, data: Dataset, writer: TeacherWriter, section: Teacher, task: Task, advance: Advance
) -> Mapping[str, Any]:
    shard, block = (int(number) for number in task.name.rpartition("/")[2].split("."))
    started = time.perf_counter()
    maker = block_maker(config, section, classes_of(config, data, section), cache.layout.slots)
    index = data.index(shard)
    if not labels_count(config, data, data, section):
        index = replace(index, label=np.full_like(index.label, NO_LABEL))
    per_block = cache.layout.views_per_block
    keep = writer.canaries_of(shard, block)
    coming = BlockWriter(writer, shard, block, config.render.memory_mb * 2**20)
    made = maker.make(
        index,
        data.images(shard, index, config.render.encoded),
        cache.seeds(shard),
        range(block * per_block, (block + 1) * per_block),
        coming.put,
        [(view, slot) for _, view, slot in keep],
        advance,
    )
    seconds = time.perf_counter() - started
    facts = {
        "views": len(index) * per_block,
        "seconds": round(seconds, 3),
        "entropy": round(made.entropy, 6),
        **({"top1": round(made.top1, 6)} if made.top1 is not None else {}),
    }
    canaries = {number: made.kept[view, slot] for number, view, slot in keep}
    return coming.finish(made.digests, canaries, facts).facts


def _evaluate(
    config: Config, writer: TeacherWriter, teacher: LoadedTeacher, advance: Advance, *, labelled: bool
) -> Mapping[str, Any]:
    data = Dataset(config.eval_place)
    views = EvaluationSet(
        data,
        writer.info.size,
        config.data.eval_crop,
        batch_size=teacher.batch_size,
        backend=backend_of(config),
        threads=threads_of(config),
        resize=config.data.eval_resize,
        to=teacher.device,
        within=config.render.encoded,
    )
    logits = views.logits(teacher.ask)
    wrong = first_not_finite(logits)
    if wrong is not None:
        raise ModelError(
            f"teacher {teacher.name!r} gave a logit that is not finite for sample {views.key(wrong)!r} of the "
            "evaluation data; nothing was written. Check its weights, or use float32"
        )
    accuracy = views.accuracy(logits, labelled=labelled)
    figures = {"top1": accuracy.top1, "top5": accuracy.top5}
    facts = {
        "samples": data.samples,
        **{name: round(value, 6) for name, value in figures.items() if value is not None},
        "entropy": round(float(entropy(logits).mean()), 6),
    }
    writer.write_evaluation(on_evaluation_set(config, teacher.fingerprint), logits.numpy(), facts)
    advance(data.samples)
    return facts


def _canary_slots(config: Config, layout: Layout) -> tuple[int, ...]:
    """Slots of the views that are kept whole: a draw of the root seed for each."""
    count = config.cache.canaries
    words, _, _, _ = philox4x32((np.arange(count), 0, 0, CANARIES), split(config.views.seed))
    return tuple(int(word) % layout.sizes[canary_place(layout, number)[0]] for number, word in enumerate(words))
