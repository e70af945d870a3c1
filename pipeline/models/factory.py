"""Models by name, their weights from local files, and the preprocessing that belongs to them.

Nothing is downloaded, and nothing is unpickled but tensors.
"""

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from stillroom.storage.errors import ModelError

from .libraries import library_named, library_names
from .weights_digest import weights_digest

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Weights:
    """A state dict and what its file says of itself.

    Attributes:
        state: tensors by name.
        sha256: of the file.
        metadata: strings that were saved with it; `classes`, `mean` and `std` as JSON where stillroom wrote it.
        path: for messages.
    """

    state: dict[str, torch.Tensor]
    sha256: str
    metadata: dict[str, str]
    path: str

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes it was trained on, if it says so."""
        names = _from_json(self.metadata.get("classes"))
        return tuple(str(name) for name in names) if isinstance(names, list) else None


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation of each channel, for pixels in [0, 1]."""

    mean: Triple
    std: Triple

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images: float32 [n, 3, height, width] in [0, 1]."""
        mean, std = _channels(self.mean, images.device), _channels(self.std, images.device)
        return (images - mean) / std


@lru_cache(maxsize=16)
def _channels(values: Triple, device: torch.device) -> torch.Tensor:
    """A number for each channel, on a device once and for all: sending them there each time would wait for it."""
    with torch.inference_mode(mode=False):  # else the first who asks, a teacher, would decide for all
        return torch.tensor(values, device=device).view(3, 1, 1)


def build_model(name: str, classes: int) -> nn.Module:
    """A model with fresh weights from torch's ambient generator.

    Args:
        name: "torchvision:NAME", "timm:NAME", or of a library that a package brings.
        classes: outputs.

    Raises:
        ModelError: no such library or model; or the name stands for more than a model's architecture.
    """
    library, _, model = name.partition(":")
    if not _PLAIN_NAME.fullmatch(model):
        # timm takes "hf-hub:…" and "local-dir:…", which load files from elsewhere.
        raise ModelError(
            f"model {name!r} is no plain name; write torchvision:NAME or timm:NAME, and give weights as a file"
        )
    build = library_named(library)
    if build is None:
        raise ModelError(f"model {name!r}: there is no library {library!r}; there are: {', '.join(library_names())}")
    try:
        return build(model, classes)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"model {name!r} cannot be built: {error}") from error


def read_weights(path: str) -> Weights:
    """Tensors from a local file.

    Raises:
        ModelError: there is no such file, or it holds anything but tensors.
    """
    sha256 = weights_digest(path)
    file = Path(path)
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                metadata = dict(opened.metadata() or {})
        else:
            state, metadata = torch.load(file, map_location="cpu", weights_only=True), {}
            state = state.get("state_dict", state)
            if not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
                raise ValueError("it is no state dict, which holds tensors by name")
    except (
        SafetensorError,
        RuntimeError,
        OSError,
        EOFError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        MemoryError,
    ) as error:
        raise ModelError(f"weights {path} cannot be read as tensors alone: {_first(error)}") from error
    except pickle.UnpicklingError as error:
        raise ModelError(f"weights {path} hold more than tensors, which is never loaded: {_first(error)}") from error
    return Weights(state, sha256, metadata, path)


def load_weights(model: nn.Module, name: str, weights: Weights) -> None:
    """Put weights into a model.

    Raises:
        ModelError: they do not fit; names the first tensor that does not.
    """
    own = model.state_dict()
    for key in sorted(own.keys() | weights.state.keys()):
        mine, theirs = _shape(own, key), _shape(weights.state, key)
        if mine != theirs:
            raise ModelError(
                f"weights {weights.path} do not fit {name}: {key} is {theirs} there and {mine} in the model"
            )
    try:
        model.load_state_dict(weights.state)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # sparse, quantised or without data
        raise ModelError(f"weights {weights.path} do not fit {name}: {_first(error)}") from error


def start_from(model: nn.Module, name: str, weights: Weights) -> None:
    """Put pretrained weights into a model; where it has other classes, its classifier keeps its fresh ones.

    Raises:
        ModelError: they do not fit elsewhere; names the first tensor that does not.
    """
    own, head = model.state_dict(), _head(model)
    kept = {
        key: value
        for key, value in own.items()
        if key.startswith(head) and _shape(own, key) != _shape(weights.state, key)
    }
    load_weights(model, name, replace(weights, state={**weights.state, **kept}))


def _head(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of the classifier's tensors: what timm says, else the last linear layer."""
    stated = (getattr(model, "pretrained_cfg", None) or {}).get("classifier")
    if stated:
        return tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return (f"{linear[-1]}.",) if linear else ()


def preprocessing_of(
    model: nn.Module, weights: Weights | None = None, mean: Triple | None = None, std: Triple | None = None
) -> Preprocessing:
    """A model's own preprocessing: what the config says, else the weights' file, else timm's, else ImageNet's.

    Raises:
        ModelError: the weights' file says that pixels are to be divided by zero, or by less.
    """
    own: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    if weights is not None:
        stated = {key: _from_json(weights.metadata.get(key)) for key in ("mean", "std")}
        own |= {key: value for key, value in stated.items() if _is_triple(value)}
        if not all(value > 0 for value in own.get("std", ())):
            raise ModelError(f"{weights.path} says std = {own['std']}; pixels are divided by it, so it is above 0")
    return Preprocessing(
        mean or _triple(own.get("mean", _IMAGENET[0])),
        std or _triple(own.get("std", _IMAGENET[1])),
    )


def _from_json(text: str | None) -> Any:
    """A value of a file's metadata; other tools write other things under the same names, which are passed over."""
    try:
        return json.loads(text) if text is not None else None
    except ValueError:
        return None


def _is_triple(value: Any) -> bool:
    """Whether it is one number for each channel."""
    numbers = isinstance(value, list) and all(type(item) in (int, float) and isfinite(item) for item in value)
    return numbers and len(value) == 3


def _triple(values: Any) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _shape(state: dict[str, torch.Tensor], key: str) -> str:
    return str(list(state[key].shape)) if key in state else "missing"


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def weights_file(state: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file of weights, the same bytes for the same weights.

    The library writes `about` in an order of its own each time, and a file's digest is what a teacher is known by.
    """
    data = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in state.items()}, {**about})
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(about.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
