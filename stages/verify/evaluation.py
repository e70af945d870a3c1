"""Asking a teacher once more for its logits on a share of the evaluation set, which are kept for people's figures."""

import numpy as np

from stillroom.pipeline.config.config import Config
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import evaluation_task
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import StillroomError, UnreachableError

from .findings import Failure, Finding
from .plain_views import differing, maker_of
from .views import bound_of

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
    except UnreachableError:
        raise
    except StillroomError as error:
        return failed("", str(error))
    wanted = data.samples, cache.teacher(name).info.classes
    if logits.shape != wanted:
        return failed("", f"logits are of shape {logits.shape}, not {wanted}")
    finding.checked[CHECK] = len(logits)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        return failed(f", sample {wrong[0]}", f"logits of {len(wrong)} samples are not finite")
    section = next(item for item in config.teacher if item.name == name)
    maker = maker_of(config, cache, section, data, config.data.eval_crop, config.data.eval_resize)
    if maker is None:
        finding.skipped.append(f"teacher {name} was not asked again for the evaluation set: no weights, or no GPU")
        return finding
    bounds = {1.0: bound_of(config, section)}
    first = 0
    for shard, size in enumerate(data.sizes):
        for slot, message in differing(config, maker, data, shard, logits[first : first + size], bounds):
            failed(f", data shard {shard}, slot {slot}", message)
        first += size
    return finding
