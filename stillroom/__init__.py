"""stillroom: knowledge distillation from a cached teacher.

The public face for anyone's own training loop::

    cache = stillroom.open("runs/trashnet/cache")
    loader = stillroom.ReplayLoader(cache, data="runs/trashnet/data", batch_size=256, size=224, seed=0)
    for batch in loader.epoch(0):
        loss = stillroom.kl_divergence(batch.logits, model(batch.images), temperature=2.0).mean()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillroom.pipeline.device.malloc import keep_freed_memory
    from stillroom.pipeline.models.factory import Preprocessing
    from stillroom.pipeline.models.losses import kl_divergence
    from stillroom.pipeline.replay.batch import Batch
    from stillroom.pipeline.replay.loader import ReplayLoader
    from stillroom.stages.teacher.own_module import teacher
    from stillroom.storage.cache.cache import Cache
    from stillroom.storage.cache.cache import open_cache as open  # noqa: A004
    from stillroom.storage.errors import StillroomError

__all__ = [
    "Batch",
    "Cache",
    "Preprocessing",
    "ReplayLoader",
    "StillroomError",
    "keep_freed_memory",
    "kl_divergence",
    "open",
    "teacher",
]

_HOMES = {
    "Batch": ("pipeline.replay.batch", "Batch"),
    "Preprocessing": ("pipeline.models.factory", "Preprocessing"),
    "teacher": ("stages.teacher.own_module", "teacher"),
    "Cache": ("storage.cache.cache", "Cache"),
    "ReplayLoader": ("pipeline.replay.loader", "ReplayLoader"),
    "StillroomError": ("storage.errors", "StillroomError"),
    "keep_freed_memory": ("pipeline.device.malloc", "keep_freed_memory"),
    "kl_divergence": ("pipeline.models.losses", "kl_divergence"),
    "open": ("storage.cache.cache", "open_cache"),
}


def __getattr__(name: str) -> Any:
    # torch and DALI take seconds to import; `stillroom --help` and status do without them.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value
