"""Fitting a state dict to a model: prefixes that wrappers put before names, and saying what does not fit.

Knows names and shapes; nothing of files.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import torch
from torch import nn

from stillroom.storage.errors import ModelError

from .file import plain
from .weights import Weights

_SHOWN = 3


def load_weights(model: nn.Module, name: str, weights: Weights) -> None:
    """Put weights into a model.

    Args:
        model: is changed.
        name: of the model, for messages.
        weights: for it.

    Raises:
        ModelError: they do not fit; names the tensors that do not, and what is nearest.
    """
    if weights.is_arrays:
        _load_arrays(model, name, weights)
        return
    own = model.state_dict()
    state, prefix = without_prefix(weights.state, own)
    if state.keys() != own.keys() or any(state[key].shape != own[key].shape for key in own):
        raise ModelError(
            f"weights {weights.path} do not fit {name}: {_misfit(state, own, prefix, weights, _head(model))}"
        )
    try:
        model.load_state_dict(state)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # sparse, quantised or without data
        raise ModelError(f"weights {weights.path} do not fit {name}: {plain(error)}") from error


def start_from(model: nn.Module, name: str, weights: Weights) -> None:
    """Put pretrained weights into a model; where it has other classes, its classifier keeps its fresh ones.

    Raises:
        ModelError: they do not fit elsewhere; names the first tensor that does not.
    """
    own, head = model.state_dict(), _head(model)
    state, _ = without_prefix(weights.state, own)
    kept = {
        key: value
        for key, value in own.items()
        if key.startswith(head) and (key not in state or state[key].shape != value.shape)
    }
    load_weights(model, name, replace(weights, state={**state, **kept}))


def without_prefix(state: Mapping[str, torch.Tensor], own: Collection[str]) -> tuple[dict[str, torch.Tensor], str]:
    """A state dict by a model's own names, and the prefix that stood before them.

    DDP writes `module.`, torch.compile `_orig_mod.`, Lightning and others the name of the attribute that held the
    model. Where the names after some prefix are a model's, whatever else the file holds belongs to something else: a
    loss, say, or a counter of averages. Without such a prefix, the one after which most names are the model's.
    """
    own = set(own)
    best = max(_prefixes(state), key=lambda prefix: (_matches(state, prefix, own), -len(prefix)))
    found = {key[len(best) :]: value for key, value in state.items() if key.startswith(best)}
    if not best or not own <= found.keys():
        return (dict(state), "") if not best or not own & found.keys() else (found, best)
    return {key: value for key, value in found.items() if key in own}, best


def _prefixes(state: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Every beginning of a name that ends with a dot, once."""
    seen = {""}
    yield ""
    for key in state:
        for dot in re.finditer(r"\.", key):
            prefix = key[: dot.end()]
            if prefix not in seen:
                seen.add(prefix)
                yield prefix


def _matches(state: Mapping[str, torch.Tensor], prefix: str, own: set[str]) -> int:
    return sum(key[len(prefix) :] in own for key in state if key.startswith(prefix))


def _misfit(
    state: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    prefix: str,
    weights: Weights,
    head: tuple[str, ...],
) -> str:
    """What is missing, what is too much, and what has another shape, a few of each."""
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shaped = [key for key in sorted(own.keys() & state.keys()) if own[key].shape != state[key].shape]
    found = []
    if shaped:
        key = shaped[0]
        found.append(f"{key} is {list(state[key].shape)} there and {list(own[key].shape)} in the model")
    if missing:
        found.append(f"{len(missing)} of the model's {len(own)} tensors are missing there ({_some(missing)})")
    if extra:
        found.append(f"{len(extra)} there are not the model's ({_some(extra)})")
    text = "; ".join(found)
    if prefix:
        text += f"; names were taken after the prefix {prefix!r}"
    if weights.others:
        others = ", ".join(map(repr, weights.others))
        text += f"; the state dict is the one under {weights.key!r}, others are under {others}"
    if shaped and not missing and all(key.startswith(head) for key in shaped):
        count = len(state[shaped[0]])
        text += (
            f"; its classifier tells {count} classes apart: to teach those over your images, without looking at their "
            f"labels, set data.labels = false and teacher.classes = {count}"
        )
    if len(missing) == len(own):
        text += "; these are weights of another architecture"
    return text


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _load_arrays(model: nn.Module, name: str, weights: Weights) -> None:
    """A .npz of Google's ViT or BiT, by timm's own reader of its names."""
    load = getattr(model, "load_pretrained", None)
    if load is None:
        raise ModelError(
            f"weights {weights.path} are arrays by Google's names, which {name} cannot read; "
            "timm's vit_… and resnetv2_… can"
        )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        load(weights.path)
    except (KeyError, ValueError, RuntimeError, AssertionError, AttributeError, IndexError) as error:
        raise ModelError(f"weights {weights.path} do not fit {name}: {plain(error)}") from error
    after = model.state_dict()
    if all(torch.equal(before[key], after[key]) for key in before):
        raise ModelError(f"weights {weights.path} do not fit {name}: none of its tensors was found there")


def _head(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of the classifier's tensors: what timm says, else the last linear layer."""
    stated = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if stated:
        return tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return (f"{linear[-1]}.",) if linear else ()
