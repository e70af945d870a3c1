"""How a model was evaluated by whoever trained it: filter and crop, where its library states them.

Knows names of models, and no weights. A recipe that resizes otherwise is no error: a teacher answers a little worse,
and people should know why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillroom.pipeline.augment.operations.geometry.crop import Resize

_FILTERS: Mapping[str, Resize] = {"bilinear": "bilinear-antialias", "bicubic": "bicubic-antialias"}
"""Libraries resize by Pillow, which always counts every pixel."""


@dataclass(frozen=True)
class OwnPreprocessing:
    """What a library states of a model.

    Attributes:
        resize: the filter, as a recipe names it; None where it is another one.
        crop: side of the centred square, as a share of the shorter side.
    """

    resize: Resize | None
    crop: float


def own_preprocessing(model: str) -> OwnPreprocessing | None:
    """What the library of a model, "timm:resnet50" say, states of it; None where it states nothing."""
    library, _, name = model.partition(":")
    stated = _OF[library](name) if library in _OF else None
    if stated is None:
        return None
    return OwnPreprocessing(_FILTERS.get(str(stated["interpolation"])), float(stated["crop"]))


def _timms(name: str) -> Mapping[str, Any] | None:
    import timm

    found = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return None if found is None else {"interpolation": found.interpolation, "crop": found.crop_pct}


def _torchvisions(name: str) -> Mapping[str, Any] | None:
    import torchvision

    plain, _, asked = name.partition("?weights=")
    try:
        entries = torchvision.models.get_model_weights(plain)
        transforms = (entries[asked] if asked else entries.DEFAULT).transforms()
        return {
            "interpolation": transforms.interpolation.value,
            "crop": transforms.crop_size[0] / transforms.resize_size[0],
        }
    except (ValueError, AttributeError, KeyError):
        return None


_OF = {"timm": _timms, "torchvision": _torchvisions}
