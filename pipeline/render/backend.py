"""Which renderer there is, and what its pixels depend on; known without torch or DALI, which take half a gigabyte.

A login node, a scheduler's client or a status page plans without them.
"""

import ctypes
from importlib import metadata
from typing import Any, Literal

Backend = Literal["dali-cpu", "dali-gpu"]
GRAPH = 1
"""Version of the graph in `render`; any change that may change a pixel raises it."""
_DRIVER = "libcuda.so.1"


def default_backend() -> Backend:
    """`dali-gpu` where there is a GPU, else `dali-cpu`."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return "dali-cpu"
    import torch

    return "dali-gpu" if torch.cuda.is_available() else "dali-cpu"


def renderer_fingerprint(backend: Backend) -> dict[str, Any]:
    """What the pixels depend on besides data and recipe."""
    packages = ("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13")
    return {"backend": backend, "graph": GRAPH, **{name: metadata.version(name) for name in packages}}
