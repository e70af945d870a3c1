"""What this machine has, where the config leaves it open; and how much of it is this process's."""

import json
import os
import sys
from typing import get_args

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.render.backend import Backend, backend_at_hand, default_backend
from stillroom.storage.errors import MissingObjectError
from stillroom.storage.objects.base import Place

THREADS = "STILLROOM_THREADS"
"""CPU threads that a process may use, where it shares its machine with others of the same run."""


def backend_of(config: Config) -> Backend:
    """The backend that a run renders with: the config's, or else the one of its cache where this machine has it."""
    if config.render.backend != "auto":
        return config.render.backend
    made_by = _made_by(config.cache_place)
    recipe = config.views.recipe
    return default_backend(recipe) if made_by is None else backend_at_hand(made_by, recipe)


def _made_by(place: Place) -> Backend | None:
    """The backend that a cache's own metadata name, whether the cache is whole or to be mended; None without any."""
    try:
        found = json.loads(place.read("zarr.json"))["attributes"]["stillroom"]["views"]["renderer"]["backend"]
    except (MissingObjectError, ValueError, KeyError, TypeError):
        return None
    return next((name for name in get_args(Backend) if name == found), None)


def threads_of(config: Config) -> int:
    """CPU threads for rendering: this process's share of the cores that it may use, unless the config says."""
    return config.render.threads or int(os.environ.get(THREADS, "0")) or share_of_cores(beside())


def beside() -> int:
    """Processes that torchrun has put on this machine, this one among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def share_of_cores(processes: int) -> int:
    """CPU threads of each of some processes that share the cores that this one may use."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def pin_threads(count: int) -> None:
    """Let this thread, and what it starts, use so many CPU threads: DALI, torch, BLAS, numba."""
    for name in (THREADS, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(count)
    torch = sys.modules.get("torch")
    if torch is not None:  # it has read the environment already; and it counts for each thread that calls it
        torch.set_num_threads(count)
