"""The state dict within what a file holds: trainers wrap it under names of their own, and may keep more than one.

Pure functions over plain data; knows nothing of files or models.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from stillroom.storage.errors import ModelError

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "teacher",
    "state_dict",
    "model_state_dict",
    "model",
    "student",
    "net",
    "network",
    "module",
)
"""Keys under which a state dict is looked for, in this order: averaged weights first, as they are the better ones."""
_DEEPEST = 3


def find_state_dict(held: Any, path: str, key: str | None) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict that is wanted, and the key it stands under; "" for the file itself.

    Args:
        held: what a file holds.
        path: of the file, for messages.
        key: that a user names, "a.b" for one within another; None for the first there is of `WRAPPERS`.

    Raises:
        ModelError: there is none, or none of that key; names those that there are.
    """
    there = dict(state_dicts(held))
    if key is not None and key in there:
        return there[key], key
    if key is None:
        for found in sorted(there, key=_rank):
            return there[found], found
    named = ", ".join(repr(found or "the file itself") for found in sorted(there, key=_rank))
    if key is not None:
        raise ModelError(
            f"weights {path} have no state dict under checkpoint_key = {key!r}; there are: {named or 'none'}"
        )
    if isinstance(held, Mapping):
        keys = ", ".join(repr(str(name)) for name in list(held)[:8])
        raise ModelError(f"weights {path} hold no state dict, which is tensors by name; their keys are: {keys}")
    raise ModelError(
        f"weights {path} hold a whole object, which is code, and code is never loaded; where it was made, save its "
        "state dict: torch.save(model.state_dict(), 'weights.pth')"
    )


def state_dicts(held: Any, at: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Every state dict within, by its key."""
    if not isinstance(held, Mapping):
        return
    tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    # A list of settings may stand among the tensors; a few tensors among settings are no state dict.
    if tensors and all(isinstance(name, str) for name in tensors) and 2 * len(tensors) > len(held):
        yield at, tensors
        return
    for name, value in held.items() if depth < _DEEPEST else ():
        if isinstance(name, str) and (not at or name in WRAPPERS):
            yield from state_dicts(value, f"{at}.{name}" if at else name, depth + 1)


def _rank(key: str) -> tuple[int, str]:
    first = key.partition(".")[0]
    return (WRAPPERS.index(first) if first in WRAPPERS else -1 if not key else len(WRAPPERS), key)
