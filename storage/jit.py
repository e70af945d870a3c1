"""The one door to numba: loops over single numbers, compiled at first use and kept beside the module.

Compiled code is integer but for element-wise arithmetic; no fast-math and no fused operations, so no machine may round
differently.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function`, compiled for the argument types it is first called with; it releases the interpreter's lock."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
