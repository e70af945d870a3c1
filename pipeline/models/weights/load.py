"""Weights of a file into a model, whatever wrote it: as they are, by the names' own fit, or by the library's code."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from stillroom.storage.errors import ModelError

from .checkpoint import first_line, read_checkpoint
from .conversions import converted, load_npz, pretrained_of_timm
from .digest import weights_digest
from .names import Fitted, fit_names
from .state_dict import ORDER, find_state_dict


@dataclass(frozen=True)
class Weights:
    """A state dict and what its file says of itself.

    Attributes:
        state: tensors by name.
        sha256: of the file.
        metadata: strings that were saved with it; `classes`, `mean` and `std` as JSON where stillroom wrote it.
        path: for messages.
        key: under which the state dict is in its checkpoint; None where it is all of it.
        others: keys of other state dicts there.
        pretrained: whether they are a library's own for the model.
    """

    state: dict[str, torch.Tensor]
    sha256: str
    metadata: dict[str, str]
    path: str
    key: str | None = None
    others: tuple[str, ...] = ()
    pretrained: bool = False

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes it was trained on, if it says so."""
        names = from_json(self.metadata.get("classes"))
        return tuple(str(name) for name in names) if isinstance(names, list) else None


def read_weights(
    path: str, key: str | None = None, *, order: Sequence[str] = ORDER, pretrained: bool = False
) -> Weights:
    """A state dict from a local file.

    Args:
        path: of the file.
        key: which of several state dicts; see `state_dict.find_state_dict`.
        order: of the keys that are looked for, where `key` names none.
        pretrained: whether they are a library's own.

    Raises:
        ModelError: there is no such file, or it holds anything but tensors, or no state dict.
    """
    sha256 = weights_digest(path)
    content, metadata = read_checkpoint(path)
    try:
        found = find_state_dict(content, key, order)
    except ValueError as error:
        raise ModelError(f"weights {path} cannot be read as tensors alone: {error}") from error
    return Weights(found.state, sha256, metadata, path, found.key, found.others, pretrained)


def load_weights(model: nn.Module, name: str, weights: Weights) -> str:
    """Put weights into a model.

    Args:
        model: with weights of its own.
        name: of the config.
        weights: what to put in their place.

    Returns:
        What people should know of it, a line; empty where nothing was chosen or left out.

    Raises:
        ModelError: they do not fit; names what does not.
    """
    if weights.path.endswith(".npz"):
        load_npz(model, name, weights.path, weights.state)
        return ""
    try:
        fitted = _fitted(model, name, weights)
    except ModelError:
        other = converted(name, getattr(model, "num_classes", 0), weights.state)
        if other is None:
            raise
        try:
            fitted = _fitted(model, name, replace(weights, state=other))
        except ModelError:
            other = None
        if other is None:
            raise
    _put(model, name, weights, fitted)
    return _note(weights, fitted)


def start_from(model: nn.Module, name: str, weights: Weights) -> None:
    """Put pretrained weights into a model; where it has other classes, its classifier keeps its fresh ones.

    Raises:
        ModelError: they do not fit elsewhere; names what does not.
    """
    own, head = model.state_dict(), _head(model)
    free = [key for key in own if key.startswith(head)]
    what = f"weights {weights.path} do not fit {name}"
    _put(model, name, weights, fit_names(own, weights.state, what, free=free, key=weights.key))


def _fitted(model: nn.Module, name: str, weights: Weights) -> Fitted:
    own, state = model.state_dict(), weights.state
    if weights.pretrained and name.startswith("timm:"):
        state = pretrained_of_timm(name, getattr(model, "num_classes", 0), state, weights.path)
    what = f"weights {weights.path} do not fit {name}"
    return fit_names(own, state, what, head=_head(model), key=weights.key)


def _put(model: nn.Module, name: str, weights: Weights, fitted: Fitted) -> None:
    try:
        model.load_state_dict(fitted.state)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # sparse, quantised or without data
        raise ModelError(f"weights {weights.path} do not fit {name}: {first_line(error)}") from error


def _note(weights: Weights, fitted: Fitted) -> str:
    """Which of several was taken, and what was left out."""
    said = []
    if weights.others:
        said.append(f"{weights.key} is taken, and not {', '.join(weights.others)} (checkpoint_key chooses)")
    if fitted.left_out:
        shown = ", ".join(fitted.left_out[:3]) + (", …" if len(fitted.left_out) > 3 else "")
        said.append(f"what is under {fitted.prefix!r} is taken, and not {len(fitted.left_out)} other tensors ({shown})")
    return f"of {weights.path}, {'; '.join(said)}" if said else ""


def _head(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of the classifier's tensors: what timm says, else the last linear layer."""
    stated = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if stated:
        return tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return (f"{linear[-1]}.",) if linear else ()


def from_json(text: str | None) -> Any:
    """A value of a file's metadata; other tools write other things under the same names, which are passed over."""
    try:
        return json.loads(text) if text is not None else None
    except ValueError:
        return None
