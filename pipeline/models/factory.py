"""Models by name, the preprocessing that belongs to them, and the file that keeps a model's weights."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

import safetensors.torch
import torch
from torch import nn

from stillroom.pipeline.config.weights_names import architecture
from stillroom.storage.errors import ModelError

from .libraries import library_named, library_names
from .weights.load import Weights, from_json

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Mean and standard deviation of each channel, for pixels in [0, 1]."""

    mean: Triple
    std: Triple

    @classmethod
    def none(cls) -> "Preprocessing":
        """Pixels in [0, 1] as they are."""
        return cls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

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
    library, _, model = architecture(name).partition(":")
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


def preprocessing_of(
    model: nn.Module, weights: Weights | None = None, mean: Triple | None = None, std: Triple | None = None
) -> Preprocessing:
    """A model's own preprocessing: what the config says, else the weights' file, else timm's, else ImageNet's.

    Raises:
        ModelError: the weights' file says that pixels are to be divided by zero, or by less.
    """
    own: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    if weights is not None:
        stated = {key: from_json(weights.metadata.get(key)) for key in ("mean", "std")}
        own |= {key: value for key, value in stated.items() if _is_triple(value)}
        if not all(value > 0 for value in own.get("std", ())):
            raise ModelError(f"{weights.path} says std = {own['std']}; pixels are divided by it, so it is above 0")
    return Preprocessing(
        mean or _triple(own.get("mean", _IMAGENET[0])),
        std or _triple(own.get("std", _IMAGENET[1])),
    )


def _is_triple(value: Any) -> bool:
    """Whether it is one number for each channel."""
    numbers = isinstance(value, list) and all(type(item) in (int, float) and isfinite(item) for item in value)
    return numbers and len(value) == 3


def _triple(values: Any) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third


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
