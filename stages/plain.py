"""The teacher's answers to one plain view of each sample, for students of a fixed teacher.

Tasks of the teacher stage where `cache.plain` asks for them: one lays the array out, one for each data shard fills it.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ..pipeline.config import Config
from ..pipeline.losses import entropy, hits
from ..pipeline.settings import Teacher
from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.fingerprint import fingerprint_digest
from ..storage.layout import plain_folder, plain_layout_task, plain_shard, plain_task
from ..storage.logits import TeacherLogits
from ..storage.plainlogits import plain_fingerprint
from ..storage.plainwriter import PlainWriter, refuse_other_crop
from ..storage.teacherwriter import TeacherWriter
from .classes import classes_of
from .stage import Advance, Task
from .workers import plain_maker


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


def run_plain(
    config: Config, writer: TeacherWriter, data: Dataset, section: Teacher, task: Task, advance: Advance
) -> Mapping[str, Any]:
    """Do one of the tasks."""
    plain = PlainWriter(writer, config.data.eval_crop)
    shard = plain_shard(task.name)
    if shard is None:
        plain.lay_out()
        return {"shards": len(data.sizes)}
    started = time.perf_counter()
    index = data.index(shard)
    images = data.images(shard, index, config.render.encoded)
    logits = plain_maker(config, section, classes_of(config, data, section), writer.layout.slots).make(
        index, images, advance=advance
    )
    answers, labels = torch.from_numpy(logits), torch.from_numpy(index.label.astype(np.int64))
    facts = {
        "views": len(index),
        "seconds": round(time.perf_counter() - started, 3),
        "entropy": round(float(entropy(answers).mean()), 6),
        **({"top1": round(float(hits(answers, labels, 1).float().mean()), 6)} if data.classes else {}),
    }
    return plain.write(shard, logits, facts).facts
