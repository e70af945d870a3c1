"""Finding the state dict in what a checkpoint holds: tensors by name, bare or under a key of the trainer's.

Knows nothing of models: whether the names fit one is `names`' work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

ORDER = (
    "state_dict_ema",  # timm
    "model_ema",  # torchvision's references, DeiT, Swin, ConvNeXt
    "ema_state_dict",
    "ema",
    "state_dict",  # timm, Lightning, MMPretrain, MoCo
    "model",  # torchvision's references, DeiT, Swin, MAE
    "model_state_dict",  # PyTorch's tutorials
    "module",  # DeepSpeed
    "teacher",  # DINO, iBOT
    "student",
    "net",
    "params",
)
"""Keys of state dicts, in the order in which they are looked for: averaged weights first, since they are the better."""
IN_TRAINING = ("state_dict", *(key for key in ORDER if key != "state_dict"))
"""The same for a student that starts from weights, as the first version took them: it is trained on."""


@dataclass(frozen=True)
class Found:
    """A state dict in a checkpoint.

    Attributes:
        state: tensors by name.
        key: where it was, as `teacher.checkpoint_key` names it; None for the whole file.
        others: keys of those that were not taken.
    """

    state: dict[str, torch.Tensor]
    key: str | None
    others: tuple[str, ...] = ()


def find_state_dict(content: Any, key: str | None = None, order: Sequence[str] = ORDER) -> Found:
    """The state dict that a checkpoint holds.

    Args:
        content: of the file.
        key: which of several: a key, then nested keys or a prefix of names, after dots. None: the first of `order`,
            where the file is no state dict itself.
        order: keys in the order in which they are looked for.

    Raises:
        ValueError: there is none; says what is there, as the end of a sentence.
    """
    if key is not None:
        return Found(_selected(content, key), key, ())
    if _is_state_dict(content):
        return Found(dict(content), None)
    held = _held(content)
    known = [name for name in order if name in held]
    if known:
        return Found(dict(content[known[0]]), known[0], tuple(name for name in held if name != known[0]))
    if held:
        raise ValueError(
            f"it is no state dict, but holds some under {', '.join(held)}; say which as checkpoint_key in [[teacher]]"
        )
    raise ValueError(f"it is no state dict, which holds tensors by name{_instead(content)}")


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(item, torch.Tensor) for name, item in value.items())
    )


def _held(content: Any) -> list[str]:
    """Keys under which a checkpoint holds state dicts."""
    items = content.items() if isinstance(content, Mapping) else ()
    return [name for name, value in items if isinstance(name, str) and _is_state_dict(value)]


def _selected(content: Any, key: str) -> dict[str, torch.Tensor]:
    """What a key names: down the dicts as far as they go, and from there by the start of names."""
    here, rest = content, key
    while rest and isinstance(here, Mapping):
        fitting = [name for name in here if isinstance(name, str) and (rest == name or rest.startswith(f"{name}."))]
        inner = [name for name in fitting if isinstance(here[name], Mapping)]
        if not inner:
            break
        name = max(inner, key=len)
        here, rest = here[name], rest[len(name) + 1 :]
    if rest and isinstance(here, Mapping):
        start = f"{rest.rstrip('.')}."
        here = {name[len(start) :]: value for name, value in here.items() if str(name).startswith(start)}
    if not _is_state_dict(here):
        known = _held(content)
        there = f"; there are: {', '.join(known)}" if known else _instead(content)
        raise ValueError(f"it has no state dict under checkpoint_key = {key!r}{there}")
    return dict(here)


def _instead(content: Any) -> str:
    if isinstance(content, Mapping):
        names = [str(name) for name in content]
        return f"; its keys are {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else "; it is empty"
    return f"; it is a {type(content).__name__}"
