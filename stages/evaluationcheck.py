"""Asking a teacher once more for its logits on a share of the evaluation set, which are kept for people's figures."""

import numpy as np
import torch

from ..pipeline.config import Config
from ..pipeline.evaluation import EvaluationSet
from ..pipeline.losses import kl_divergence
from ..pipeline.render import Backend
from ..storage.cache import Cache
from ..storage.dataset import Dataset
from ..storage.errors import StillroomError
from ..storage.layout import evaluation_task
from .findings import Failure, Finding
from .machine import threads_of
from .recheck import bound_of, chosen_slots, loaded_teacher

CHECK = "evaluation"


def recheck_evaluation(config: Config, name: str) -> Finding:
    """Read all of a teacher's logits on the evaluation set, and make a share of them again."""
    cache = Cache(config.cache_place)
    finding = Finding({CHECK: 0})
    if cache.ledger.get(evaluation_task(name)) is None:
        return finding  # a task that is not done, which is found elsewhere

    def failed(where: str, message: str) -> Finding:
        redo = "cache", evaluation_task(name)  # to do it again costs little
        finding.failures.append(Failure(CHECK, f"teacher {name}, evaluation set{where}", message, redo))
        return finding

    data = Dataset(config.eval_place)
    try:
        logits = cache.teacher(name).evaluation()
    except StillroomError as error:
        return failed("", str(error))
    if logits.shape != (data.samples, len(data.classes)):
        return failed("", f"logits are of shape {logits.shape}, not {(data.samples, len(data.classes))}")
    finding.checked[CHECK] = len(logits)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        return failed(f", sample {wrong[0]}", f"logits of {len(wrong)} samples are not finite")
    section = next(item for item in config.teacher if item.name == name)
    teacher = loaded_teacher(section, data.classes)
    backend: Backend = cache.info.views["renderer"]["backend"]
    if teacher is None or (backend == "dali-gpu" and not torch.cuda.is_available()):
        finding.skipped.append(f"teacher {name} was not asked again for the evaluation set: no weights, or no GPU")
        return finding
    views = EvaluationSet(
        data,
        section.size,
        config.data.eval_crop,
        batch_size=section.batch_size,
        backend=backend,
        threads=threads_of(config),
    )
    first = 0
    for shard, size in enumerate(data.sizes):
        slots = chosen_slots(config.verify.seed, config.verify.share, shard, 0, size)
        if len(slots):
            before = torch.from_numpy(logits[first + slots])
            for slot, nats in zip(
                slots, kl_divergence(teacher(views.some(shard, slots)), before).tolist(), strict=True
            ):
                if not nats <= bound_of(config, section):
                    failed(f", data shard {shard}, slot {slot}", f"the teacher is {nats:.3g} nats from its logits here")
        first += size
    return finding
