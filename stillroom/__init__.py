"""stillroom: knowledge distillation from a cached teacher.

The public face for anyone's own training loop::

    cache = stillroom.open("runs/trashnet/cache")
    loader = stillroom.ReplayLoader(cache, data="runs/trashnet/data", batch_size=256, size=224, seed=0)
    for batch in loader.epoch(0):
        loss = stillroom.kl_divergence(batch.logits, model(batch.images), temperature=2.0).mean()
"""

from .pipeline.losses import kl_divergence
from .pipeline.replay import Batch, ReplayLoader
from .storage.cache import Cache
from .storage.cache import open_cache as open  # noqa: A004
from .storage.errors import StillroomError

__all__ = ["Batch", "Cache", "ReplayLoader", "StillroomError", "kl_divergence", "open"]
