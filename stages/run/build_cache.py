"""What a process builds once and keeps for its later tasks, since it is slow to build and large: teachers, renderers.

Knows neither torch nor DALI, so that whoever only plans can ask for it to be let go.
"""

import gc
import sys
from collections.abc import Callable
from functools import _lru_cache_wrapper, lru_cache
from typing import TypeVar

T = TypeVar("T")

_builders: list["_lru_cache_wrapper[object]"] = []


def built_once(build: Callable[..., T]) -> "_lru_cache_wrapper[T]":
    """Keep what was built last, for as long as it is asked for with the same arguments."""
    kept = lru_cache(maxsize=1)(build)
    _builders.append(kept)
    return kept


def release() -> None:
    """Let go of all that was built, and of its memory, on the GPU too."""
    if not any(kept.cache_info().currsize for kept in _builders):
        return
    for kept in _builders:
        kept.cache_clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
