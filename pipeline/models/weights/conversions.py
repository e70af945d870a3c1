"""Weights that are not in a model's own names, put into it by the code of the library that the model is of.

timm knows the files of the authors of most of its models, and how its own pretrained ones are to be adapted; BiT's and
ViT's `.npz` are read by the models themselves. What they read are tensors that were read before, or plain numbers.
"""

import re
from collections.abc import Mapping

import torch
from torch import nn

from stillroom.storage.errors import ModelError

from .checkpoint import first_line

_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var|num_batches_tracked))$"
)
_ERRORS = (RuntimeError, LookupError, AttributeError, TypeError, ValueError, AssertionError, NotImplementedError)

State = Mapping[str, torch.Tensor]


def converted(name: str, classes: int, state: State) -> dict[str, torch.Tensor] | None:
    """A state dict in the names of a library's model, by what the library knows of other files of it.

    Args:
        name: "timm:NAME" or "torchvision:NAME".
        classes: of the model.
        state: of the file, in names of its own.

    Returns:
        None where the library knows no such names.
    """
    library, _, model = name.partition(":")
    if library == "torchvision":
        return {_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    if library != "timm":
        return None
    try:
        return _by_timm(model, classes, {"state_dict": dict(_unwrapped(state)), "num_classes": classes})
    except _ERRORS:
        return None


def pretrained_of_timm(name: str, classes: int, state: State, path: str) -> dict[str, torch.Tensor]:
    """The state dict of a model that timm has loaded its own pretrained weights into.

    Raises:
        ModelError: it cannot, or they are of another number of classes.
    """
    import timm

    _, _, model = name.partition(":")
    config = timm.get_pretrained_cfg(model)
    if config is not None and config.num_classes != classes:
        raise ModelError(
            f"the pretrained weights of {name} tell {config.num_classes} classes apart, and {classes} are needed; "
            f"where theirs are the teacher's own, and not the data set's, set classes = {config.num_classes} in "
            "[[teacher]]"
        )
    try:
        return _by_timm(model, classes, {"state_dict": dict(state)})
    except _ERRORS as error:
        raise ModelError(f"weights {path} do not fit {name}: timm says {first_line(error)}") from error


def load_npz(model: nn.Module, name: str, path: str, state: State) -> None:
    """Have a model of timm read an `.npz` file, as of BiT or ViT.

    Raises:
        ModelError: the model reads no such files, or something of it is not in this one.
    """
    if not hasattr(model, "load_pretrained"):
        raise ModelError(
            f"weights {path}: model {name} reads no .npz; timm's BiT (resnetv2_…), ViT and Mixer do. Write a "
            ".safetensors file of its state dict"
        )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.fill_(torch.nan)  # what the model does not read stays so: it passes over what does not fit
    try:
        model.load_pretrained(path)  # type: ignore[operator]
    except _ERRORS as error:
        raise ModelError(f"weights {path} do not fit {name}: {type(error).__name__}: {first_line(error)}") from error
    unread = [key for key, value in model.state_dict().items() if value.is_floating_point() and value.isnan().any()]
    if unread:
        model.load_state_dict(before)
        shapes = {key: list(value.shape) for key, value in state.items() if "head" in key}
        raise ModelError(
            f"weights {path} do not fit {name}: {', '.join(unread[:4])} {'are' if len(unread) > 1 else 'is'} not in it "
            f"with the model's shape, {list(before[unread[0]].shape)}; its head is {shapes or 'missing'}. Where its "
            "classes are the teacher's own, say how many as classes in [[teacher]]"
        )


def _by_timm(model: str, classes: int, overlay: Mapping[str, object]) -> dict[str, torch.Tensor]:
    import timm

    with torch.random.fork_rng(devices=[]):
        built = timm.create_model(model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=dict(overlay))
    return dict(built.state_dict())


def _unwrapped(state: State) -> State:
    """Without what wrappers put before every name."""
    while state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state
