"""What this machine has, where the config leaves it open."""

import os

from ..pipeline.config import Config
from ..pipeline.render import Backend, default_backend


def backend_of(config: Config) -> Backend:
    """The backend that a run renders with."""
    return default_backend() if config.render.backend == "auto" else config.render.backend


def threads_of(config: Config) -> int:
    """CPU threads for rendering: this process's share of the cores that it may use, unless the config says."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return config.render.threads or max(1, len(os.sched_getaffinity(0)) // beside)
