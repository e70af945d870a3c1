"""The teacher's pass: every view is rendered once, classified, and its logits kept for ever.

One task per data shard and block; one that lays out the arrays first, after a pilot where the codec is fitted to one;
one for the evaluation set; and those of plain views, where they are asked for.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..pipeline.config import Config
from ..pipeline.evaluation import EvaluationSet
from ..pipeline.losses import entropy
from ..pipeline.models import weights_digest
from ..pipeline.philox import philox4x32, split
from ..pipeline.seeds import CANARIES
from ..pipeline.settings import Teacher
from ..pipeline.teach import LoadedTeacher, first_not_finite
from ..storage.blockwriter import BlockWriter
from ..storage.cache import Cache
from ..storage.codecname import TRANSFORM
from ..storage.dataset import Dataset
from ..storage.errors import ModelError
from ..storage.fingerprint import Fingerprint, fingerprint_digest
from ..storage.layout import (
    TEACHERS,
    Layout,
    block_task,
    canary_place,
    evaluation_task,
    layout_task,
    layouts_folder,
    pilot_task,
    teacher_folder,
)
from ..storage.logitarray import refuse_other_teacher
from ..storage.logits import TeacherInfo
from ..storage.teacherwriter import TeacherWriter
from . import pilot, plain
from .classes import classes_of
from .machine import backend_of, threads_of
from .seeds import open_cache
from .stage import Advance, Home, Stage, Task
from .workers import block_maker, loaded_teacher


def tasks(config: Config) -> Sequence[Task]:
    """For each teacher: the pilot, if any; layouts; then each data shard and block, the evaluation set, plain views."""
    if not config.teacher:
        return []
    data = Dataset(config.data_place)
    views, block = config.views.count, config.views.views_per_block
    found = []
    for section in config.teacher:
        if config.cache.codec == TRANSFORM:
            found.append(pilot.task_of(config, section, data.sizes))
        found.append(Task(layout_task(section.name, views), 1, 0))
        for number in range(views // block):
            found += [Task(block_task(section.name, s, number), 2, size * block) for s, size in enumerate(data.sizes)]
        if config.data.evaluates:
            found.append(Task(evaluation_task(section.name), 2, Dataset(config.eval_place).samples))
        if config.cache.plain:
            found += plain.tasks_of(section, data.sizes)
    return sorted(found, key=lambda task: task.wave)


def done(config: Config) -> Callable[[Task], bool]:
    """Whether a task's record is there.

    Raises:
        FingerprintError: the cache's views or a teacher of that name were made from something else.
    """
    if not config.teacher:
        return lambda _: True
    cache = open_cache(config, Dataset(config.data_place), writing=False)
    stored = {name: cache.teacher(name) for name in cache.teachers}
    named = {section.name for section in config.teacher}
    for section in config.teacher:
        if section.name in stored:
            _refuse_other_teacher(config, section, stored[section.name].info)
    expected: dict[str, str] = {}
    # One listing, and one pass over what is there: a cache may have tens of thousands of tasks.
    records = cache.ledger.snapshot(TEACHERS)
    for name, teacher in stored.items():
        expected |= dict.fromkeys(records.tasks(teacher_folder(name)), teacher.identity)
        if config.data.evaluates:
            expected[evaluation_task(name)] = fingerprint_digest(on_evaluation_set(config, teacher.info.fingerprint))
        if config.cache.plain and name in named:
            expected |= plain.expected(config, cache, teacher)

    def check(task: Task) -> bool:
        section = _section(config, task)
        if task.name == pilot_task(section.name):
            return pilot.is_done(config, section, cache)
        if task.name == layout_task(section.name, config.views.count):
            return section.name in stored and stored[section.name].views >= config.views.count
        if task.name not in expected:
            return False
        record = records.get(task.name)
        return record is not None and record.fingerprint == expected[task.name]

    return check


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:
    """Do one task."""
    section = _section(config, task)
    data = Dataset(config.data_place)
    evaluates = task.name == evaluation_task(section.name)
    cache = open_cache(config, data, writing=not evaluates)
    if task.name == pilot_task(section.name):
        return pilot.run_pilot(config, section, cache, data, advance)
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
        return {"views": config.views.count}
    if plain.is_plain(section, task):
        return plain.run_plain(config, writer, data, section, task, advance)
    if evaluates:
        return _evaluate(config, writer, teacher, advance)
    return _teach_block(config, cache, data, writer, section, task, advance)


def _teach_block(
    config: Config, cache: Cache, data: Dataset, writer: TeacherWriter, section: Teacher, task: Task, advance: Advance
) -> Mapping[str, Any]:
    shard, block = (int(number) for number in task.name.rpartition("/")[2].split("."))
    started = time.perf_counter()
    maker = block_maker(config, section, classes_of(config, data, section), cache.layout.slots)
    index = data.index(shard)
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


def _evaluate(config: Config, writer: TeacherWriter, teacher: LoadedTeacher, advance: Advance) -> Mapping[str, Any]:
    data = Dataset(config.eval_place)
    views = EvaluationSet(
        data,
        writer.info.size,
        config.data.eval_crop,
        batch_size=teacher.batch_size,
        backend=backend_of(config),
        threads=threads_of(config),
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
    accuracy = views.accuracy(logits)
    facts = {
        "samples": data.samples,
        "top1": round(accuracy.top1, 6),
        "top5": round(accuracy.top5, 6),
        "entropy": round(float(entropy(logits).mean()), 6),
    }
    writer.write_evaluation(on_evaluation_set(config, teacher.fingerprint), logits.numpy(), facts)
    advance(data.samples)
    return facts


def _section(config: Config, task: Task) -> Teacher:
    name = task.name.split("/")[1]
    return next(section for section in config.teacher if section.name == name)


def _refuse_other_teacher(config: Config, section: Teacher, stored: TeacherInfo) -> None:
    """Compare a config's teacher with the cached one. Where its weights are not at hand, all but their digest."""
    wanted: dict[str, Any] = {
        "model": section.model,
        "size": section.size,
        "precision": section.precision,
        "compile": section.compile,
        "graph": section.graph,
        "codec": config.cache.codec,
    }
    if Path(section.weights).is_file():
        wanted["weights"] = weights_digest(section.weights)
    for field, value in (("mean", section.mean), ("std", section.std)):
        if value is not None:
            wanted[field] = list(value)
    if config.cache.codec == TRANSFORM:
        wanted["cache"] = pilot.settings_of(config)
    unsaid = {"compile": False, "graph": False}
    there = {**unsaid, **stored.fingerprint, "codec": stored.codec, "cache": stored.transform.get("cache")}
    refuse_other_teacher(section.name, config.cache_place, {key: there[key] for key in wanted}, wanted)


def on_evaluation_set(config: Config, teacher: Fingerprint) -> Fingerprint:
    """What a teacher's logits on the evaluation set are made from.

    Not the renderer: they are for people's figures, and a newer one is no reason to write to a finished cache.
    """
    return {
        "teacher": teacher,
        "data": Dataset(config.eval_place).description.digest,
        "data.eval_crop": config.data.eval_crop,
    }


def _canary_slots(config: Config, layout: Layout) -> tuple[int, ...]:
    """Slots of the views that are kept whole: a draw of the root seed for each."""
    count = config.cache.canaries
    words, _, _, _ = philox4x32((np.arange(count), 0, 0, CANARIES), split(config.views.seed))
    return tuple(int(word) % layout.sizes[canary_place(layout, number)[0]] for number, word in enumerate(words))


def homes(config: Config, task: Task) -> Sequence[Home]:
    """In the cache. Layouts for any number of views write the same objects."""
    claim = layouts_folder(_section(config, task).name)
    return [Home(config.cache_place, task.name, claim if task.name.startswith(f"{claim}/") else task.name)]


STAGE = Stage("teacher", "views", tasks, done, run, homes=homes, ranks="apart", shared=2)
