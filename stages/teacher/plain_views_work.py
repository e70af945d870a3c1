"""Asking the teacher about plain views: laying the array out, and filling it, a data shard at a time."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.losses import entropy, hits
from stillroom.stages.ingest.class_names import classes_of, labels_count
from stillroom.stages.run.stage import Advance, Task
from stillroom.storage.cache.layout import plain_shard
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.writers.plain_view import PlainWriter
from stillroom.storage.writers.teacher import TeacherWriter

from .worker_cache import plain_maker


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
    counts = labels_count(config, data, data, section)
    answers, labels = torch.from_numpy(logits), torch.from_numpy(index.label.astype(np.int64))
    facts = {
        "views": len(index),
        "seconds": round(time.perf_counter() - started, 3),
        "entropy": round(float(entropy(answers).mean()), 6),
        **({"top1": round(float(hits(answers, labels, 1).float().mean()), 6)} if counts else {}),
    }
    return plain.write(shard, logits, facts).facts
