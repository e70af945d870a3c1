"""Memory that a process frees and will want again, batch after batch, stays with it.

glibc gives freed memory back to the system, tensors of more than 128 KB to 32 MB each at once; the system zeroes every
page before it lends it again. On a CPU that is a third of a forward pass and up to half of a step.
"""

import ctypes
import os
from collections.abc import Mapping

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""Names of `mallopt`'s parameters, from glibc's malloc.h."""
_SETTINGS = (
    (_MMAP_MAX, 0),  # large blocks, too, come from the heap
    (_TRIM_THRESHOLD, 2**31 - 1),  # which is given back from 2 GB of free memory at its end on
    (_TOP_PAD, 2**28),  # and grows in large steps, of addresses: what is not written takes no memory
    (_ARENA_MAX, 1),  # and is one for all threads: another heap holds no large block
)
_TUNED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX")
_OF_DASK = {"MALLOC_TRIM_THRESHOLD_": "65536"}
"""What Dask's nannies start every worker with, for tables of small things: each tensor is given back then."""


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Have glibc's `malloc` keep what is freed; for the whole process, from now on.

    Call it before large tensors are made; the `stillroom` command does, and your own training loop may. The most
    memory that a process takes stays about the same, but it holds that until it ends.

    Args:
        environment: where a person may have tuned glibc's `malloc`, by its variables (MALLOC_…, GLIBC_TUNABLES), or
            put another allocator in its place (LD_PRELOAD), and is left alone then.

    Returns:
        Whether it does so now; False also where the C library is another one.
    """
    tuned = {name: environment[name] for name in _TUNED if name in environment}
    if tuned not in ({}, _OF_DASK) or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    if "malloc" in environment.get("LD_PRELOAD", ""):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all([library.mallopt(name, value) == 1 for name, value in _SETTINGS])  # noqa: C419, each is to be set
