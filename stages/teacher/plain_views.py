"""The teacher's answers to one plain view of each sample, for students of a fixed teacher.

Tasks of the teacher stage where `cache.plain` asks for them: one lays the array out, one for each data shard fills it.
"""

from collections.abc import Iterator

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.stages.run.stage import Task
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import plain_folder, plain_layout_task, plain_task
from stillroom.storage.cache.plain_logits import plain_fingerprint
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.ledger.fingerprint import fingerprint_digest
from stillroom.storage.writers.plain_view import refuse_other_crop


def tasks_of(section: Teacher, sizes: tuple[int, ...]) -> Iterator[Task]:
    """The layout, and each data shard."""
    yield Task(plain_layout_task(section.name), 1, 0)
    for shard, size in enumerate(sizes):
        yield Task(plain_task(section.name, shard), 2, size)


def is_plain(section: Teacher, task: Task) -> bool:
    """Whether it is one of those."""
    return task.name.startswith(f"{plain_folder(section.name)}/")


def expected(config: Config, cache: Cache, cached: TeacherLogits) -> dict[str, str]:
    """By each task that is done, the fingerprint that its record must have in this run.

    Raises:
        FingerprintError: the plain views in the cache are of another crop.
        StoreError: their metadata are damaged.
    """
    crop = cached.plain_crop()
    if crop is not None:
        refuse_other_crop(cached.name, cache.place, crop, config.data.eval_crop)
    wanted = fingerprint_digest(plain_fingerprint(cached.identity, config.data.eval_crop))
    return dict.fromkeys(cache.ledger.tasks(plain_folder(cached.name)), wanted)
