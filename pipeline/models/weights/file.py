"""What a file of weights holds, as plain data: tensors, numbers, strings, and containers of them.

Nothing that a file brings is run: a pickle's classes become empty stand-ins, so that a trainer's settings beside the
tensors are no reason to refuse them, and are not read either. Knows nothing of models.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from stillroom.storage.errors import ModelError

_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")
_ADVICE = (
    "Weights only load failed",
    "(1) ",
    "(2) ",
    "Please file",
    "Check the documentation",
    "WeightsUnpickler error:",
)
_UNREADABLE = (
    SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    MemoryError,
    pickle.UnpicklingError,
)


_UNKNOWN = re.compile(r"GLOBAL ([\w.]+) was not an allowed global")
_CONTAINER = re.compile(r"Can only (SETITEM|append|extend).*but got <class '.*\.(StandIn\d+)'>")
_MOST = 64
"""Classes in one file, at most; more are no trainer's settings."""


class StandIn:
    """In place of an object of a class that is never loaded."""

    def __init__(self, *_given: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


def read_file(path: str) -> tuple[Any, Mapping[str, str]]:
    """What a local file holds, and the strings that were saved with it.

    Args:
        path: .safetensors; .npz; anything else as torch saves it.

    Raises:
        ModelError: it cannot be read.
    """
    file = Path(path)
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                return state, dict(opened.metadata() or {})
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}, {}
        return _unpickled(file), {}
    except _UNREADABLE as error:
        raise ModelError(
            f"weights {path} cannot be read: {plain(error)}. Convert them where they were made: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error


def foreign_classes(path: str) -> list[str]:
    """Names of the classes in a pickle that are not torch's own kinds of tensors."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError, AttributeError, LookupError, pickle.UnpicklingError):
        return []  # an old file, which torch.load reads or refuses by itself


def plain(error: BaseException) -> str:
    """The line of an error that says what is wrong: the first but for torch's advice, without a terminal's codes."""
    lines = [line.strip() for line in _TERMINAL.sub("", str(error)).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_ADVICE)]
    return (telling or lines or [type(error).__name__])[0].rstrip(".")


def _unpickled(file: Path) -> Any:
    """A pickle of tensors, by torch's reader of those alone, with stand-ins for all other classes.

    torch lets items be put into plain dicts and lists only: a class that turns out to be a kind of these becomes one.
    """
    kinds: dict[str, type] = dict.fromkeys(foreign_classes(str(file)), object)
    for _ in range(2 * _MOST):
        stand_ins = {f"StandIn{place}": (name, kind) for place, (name, kind) in enumerate(kinds.items())}
        allowed = [(_stand_in(known, kind), name) for known, (name, kind) in stand_ins.items()]
        try:
            with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
                return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
        except pickle.UnpicklingError as error:
            unknown, container = _UNKNOWN.search(str(error)), _CONTAINER.search(str(error))
            if unknown is not None and unknown[1] not in kinds and len(kinds) < _MOST:
                kinds[unknown[1]] = object
            elif container is not None:
                kinds[stand_ins[container[2]][0]] = dict if container[1] == "SETITEM" else list
            else:
                raise
    raise pickle.UnpicklingError("it holds too many kinds of objects")


def _stand_in(name: str, kind: type) -> type:
    if kind is object:
        return type(name, (StandIn,), {})
    return type(name, (StandIn,), {"__new__": lambda _, *_given, **_named: kind()})
