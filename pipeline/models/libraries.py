"""Libraries of models: what stands before the colon of "timm:resnet50" builds what stands after it.

A package brings one by an entry point of the group `stillroom.models`, which names such a function. Knows nothing of
weights.
"""

from collections.abc import Callable
from importlib.metadata import entry_points

from torch import nn

GROUP = "stillroom.models"

Build = Callable[[str, int], nn.Module]
"""From a model's name and a number of classes to a fresh model, by torch's ambient generator; ValueError if none."""


def library_names() -> list[str]:
    """All that there are, ours first."""
    return [*_OWN, *sorted(point.name for point in entry_points(group=GROUP))]


def library_named(name: str) -> Build | None:
    """What builds the models of a library; None where there is none of that name."""
    if name in _OWN:
        return _OWN[name]
    for point in entry_points(group=GROUP, name=name):
        build: Build = point.load()
        return build
    return None


def known_well(name: str) -> bool:
    """Whether a model, "library:NAME", is of a library whose models in evaluation mode answer image by image."""
    return name.partition(":")[0] in _OWN


# Each library takes seconds to import, and most commands build no model.
def _torchvision(model: str, classes: int) -> nn.Module:
    import torchvision

    if model not in torchvision.models.list_models(module=torchvision.models):
        # Others, for segmentation say, would download weights for a part of them.
        raise ValueError("torchvision has no classifier of that name")
    built: nn.Module = torchvision.models.get_model(model, weights=None, num_classes=classes)
    return built


def _timm(model: str, classes: int) -> nn.Module:
    import timm

    built: nn.Module = timm.create_model(model, pretrained=False, num_classes=classes)
    return built


_OWN: dict[str, Build] = {"torchvision": _torchvision, "timm": _timm}
