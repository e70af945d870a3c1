"""Which renderer there is, and what its pixels depend on; known without torch or DALI, which take half a gigabyte.

A login node, a scheduler's client or a status page plans without them.
"""

import ctypes
from importlib import metadata
from typing import Any, Literal

from stillroom.pipeline.augment.recipe import Recipe

Backend = Literal["integer-cpu", "dali-cpu", "dali-gpu"]
"""DALI decodes in all of them. `integer-cpu` resizes and flips by kernels in `pixels`, in integers; in the others
DALI's graph does."""
GRAPH = 1
"""Version of what is done in `render`; any change that may change a pixel raises it."""
_DRIVER = "libcuda.so.1"


def default_backend(recipe: Recipe | None = None) -> Backend:
    """`dali-gpu` where there is a GPU; else `integer-cpu`, or `dali-cpu` where a recipe needs DALI's operators."""
    if has_gpu():
        return "dali-gpu"
    return "integer-cpu" if recipe is None or recipe.in_integers else "dali-cpu"


def backend_at_hand(made_by: Backend, recipe: Recipe) -> Backend:
    """The backend by which a cache was made, where this machine has it; else what renders a recipe by default here."""
    return made_by if made_by != "dali-gpu" or has_gpu() else default_backend(recipe)


def has_gpu() -> bool:
    """Whether there is a GPU that torch can use; torch is imported only where there may be."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def renderer_fingerprint(backend: Backend) -> dict[str, Any]:
    """What the pixels depend on besides data and recipe."""
    packages = ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13")
    return {"backend": backend, "graph": GRAPH, **{name: metadata.version(name) for name in packages}}
