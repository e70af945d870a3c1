"""The teacher's pass: every view is rendered once, classified, and its logits kept for ever.

One task per data shard and block; one that lays out the arrays first, after a pilot where the codec is fitted to one;
one for the evaluation set; and those of plain views, where they are asked for. What there is to do, and whether it is
done, which takes neither torch nor DALI; `work` does it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.config.weights_names import WHOLE, parse_weights
from stillroom.pipeline.models.weights.digest import weights_digest
from stillroom.pipeline.models.weights.location import at_hand, fetch, refuse_missing
from stillroom.stages.run.figure_lines import figure_lines
from stillroom.stages.run.stage import Advance, RecordLocation, Results, Stage, Task
from stillroom.storage.cache.layout import (
    EVALUATION,
    TEACHERS,
    block_task,
    evaluation_task,
    layout_task,
    layouts_folder,
    pilot_task,
    teacher_folder,
)
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import MissingObjectError, ModelError, StillroomError
from stillroom.storage.ledger.fingerprint import Fingerprint, fingerprint_digest, stated
from stillroom.storage.writers.array_encoder import refuse_other_teacher

from . import pilot, plain_views
from .codec_loss_text import of_blocks
from .preprocessing_notes import notes
from .seeds import open_cache


def tasks(config: Config) -> Sequence[Task]:
    """For each teacher: the pilot, if any; layouts; then each data shard and block, the evaluation set, plain views."""
    if not config.teacher:
        return []
    data = Dataset(config.data_place)
    views, block = config.views.count, config.views.views_per_block
    found = []
    for section in config.teacher:
        if kind_of(config.cache.codec).fitted:
            found.append(pilot.task_of(config, section, data.sizes))
        found.append(Task(layout_task(section.name, views), 1, 0))
        for number in range(views // block):
            found += [Task(block_task(section.name, s, number), 2, size * block) for s, size in enumerate(data.sizes)]
        if config.data.evaluates:
            found.append(Task(evaluation_task(section.name), 2, Dataset(config.eval_place).samples))
        if config.cache.plain:
            found += plain_views.tasks_of(section, data.sizes)
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
            expected |= plain_views.expected(config, cache, teacher)

    def check(task: Task) -> bool:
        section = section_of(config, task)
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
    from .work import work  # brings torch and DALI along

    return work(config, task, advance)


def section_of(config: Config, task: Task) -> Teacher:
    """The teacher whose task it is."""
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
    if (weights := at_hand(section)) is not None:
        wanted["weights"] = weights_digest(weights)
    if section.checkpoint_key is not None:
        wanted["checkpoint_key"] = None if section.checkpoint_key in WHOLE else section.checkpoint_key
    for field, value in (("mean", section.mean), ("std", section.std)):
        if value is not None:
            wanted[field] = list(value)
    if kind_of(config.cache.codec).fitted:
        wanted["cache"] = pilot.settings_of(config)
    there = {**section.LATER, **stored.fingerprint, "codec": stored.codec, "cache": stored.transform.get("cache")}
    refuse_other_teacher(section.name, config.cache_place, {key: there[key] for key in wanted}, wanted)


def on_evaluation_set(config: Config, teacher: Fingerprint) -> Fingerprint:
    """What a teacher's logits on the evaluation set are made from.

    Not the renderer: they are for people's figures, and a newer one is no reason to write to a finished cache.
    """
    return stated(
        {
            "teacher": teacher,
            "data": Dataset(config.eval_place).description.digest,
            "data.eval_crop": config.data.eval_crop,
            "data.eval_resize": config.data.eval_resize,
        },
        {"data.eval_resize": "bilinear"},
    )


def homes(config: Config, task: Task) -> Sequence[RecordLocation]:
    """In the cache. Layouts for any number of views write the same objects."""
    claim = layouts_folder(section_of(config, task).name)
    return [RecordLocation(config.cache_place, task.name, claim if task.name.startswith(f"{claim}/") else task.name)]


def details(results: Results, concluded: Mapping[str, Any] | None) -> Sequence[str]:  # noqa: ARG001
    """How good a teacher is on the evaluation set, and what its codec lost."""
    evaluated = {name: result for name, result in results.items() if name.endswith(f"/{EVALUATION}")}
    chosen = {name: result for name, result in results.items() if "weights" in result}
    return [
        *figure_lines(chosen, ("weights",)),
        *figure_lines(evaluated, ("samples", "top1", "top5")),
        *of_blocks(results),
    ]


def prepare(config: Config) -> None:
    """Fetch weights that are not here, for teachers that are not done; then all who share the work find them."""
    away = [section for section in config.teacher if parse_weights(section.model, section.weights) is not None]
    away = [section for section in away if at_hand(section) is None]
    if away:
        left = _left(config)
        for section in away:
            if section.name in left:
                refuse_missing(section)
                fetch(section)


def look_ahead(config: Config, fetches: bool) -> None:
    """Refuse teachers whose weights will be missing; those that have to be fetched, by fetching them, if that may be.

    Raises:
        ModelError: names them.
    """
    lacking = []
    for section in config.teacher:
        try:
            refuse_missing(section)
        except ModelError as error:
            lacking.append((section.name, error))
    left = _left(config) if lacking else ()
    for name, found in lacking:
        if name in left:
            raise found
    if fetches:
        prepare(config)


def _left(config: Config) -> set[str]:
    """Names of the teachers that have something left to do, as far as it is known."""
    try:
        check = done(config)
        return {section_of(config, task).name for task in tasks(config) if not check(task)}
    except MissingObjectError:
        return {section.name for section in config.teacher}  # no data, or no cache, as yet
    except StillroomError:
        return set()  # the stages themselves say what is wrong


STAGE = Stage(
    "teacher",
    "views",
    tasks,
    done,
    run,
    homes=homes,
    ranks="apart",
    shared=2,
    asks_teacher=True,
    details=details,
    notes=notes,
    prepare=prepare,
    look_ahead=look_ahead,
)
