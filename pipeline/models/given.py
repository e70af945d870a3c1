"""A teacher that a Python program gives: any module or callable, under a fingerprint of its weights and a version.

What the module computes is known to nobody but its author. So the author states a version, and changes it whenever the
same weights come to mean other answers.
"""

import hashlib
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.config.weights_names import PYTHON
from stillroom.storage.errors import ConfigError
from stillroom.storage.ledger.fingerprint import stated

from .company import refuse_company, refuse_training_mode
from .factory import Preprocessing
from .teacher import LoadedTeacher
from .weights.digest import weights_digest

Module = Callable[[torch.Tensor], Any]
"""From float32 images [n, 3, size, size], normalised, to logits [n, class], or to what holds them as `.logits`."""


def given_teacher(
    section: Teacher,
    classes: int,
    module: Module,
    *,
    version: str,
    preprocessing: Preprocessing | None = None,
    files: Sequence[str] = (),
    device: torch.device | str | None = None,
) -> LoadedTeacher:
    """A module as a teacher that is ready to answer.

    Args:
        section: of the config, whose model is "python:NAME".
        classes: how many logits the module gives.
        module: in evaluation mode.
        version: of what the module computes, beside its weights.
        preprocessing: of its images; default: the table's mean and std.
        files: paths of weights that are no part of the module's state, as of an ONNX session.
        device: where images are handed over; default: that of the module's weights, else the CPU.

    Raises:
        ConfigError: the section is of another kind of model, or nothing says how pixels are normalised.
        ModelError: the module is in training mode, or its answers depend on the batch, or it gives no logits.
    """
    if section.model.partition(":")[0] != PYTHON:
        raise ConfigError(
            f"teacher {section.name!r} has model = {section.model!r}, which stillroom builds itself; a module of one's "
            f'own needs model = "{PYTHON}:{section.name}" and no weights'
        )
    if not version:
        raise ConfigError(
            f'teacher {section.name!r}: version is empty; give a string, such as "1", and change it when '
            "the module comes to answer otherwise"
        )
    refuse_training_mode(section.name, module)
    normalised = preprocessing or _of_table(section)
    fingerprint = {
        "model": section.model,
        "weights": state_digest(module, files),
        "version": version,
        "size": section.size,
        "precision": section.precision,
        "mean": list(normalised.mean),
        "std": list(normalised.std),
        "compile": section.compile,
        "graph": section.graph,
        "checkpoint_key": None,
    }
    teacher = LoadedTeacher(
        section.name,
        _logits_of(module),
        normalised,
        section.precision,
        section.batch_size,
        torch.device(device) if device is not None else _device_of(module),
        classes,
        stated(fingerprint, section.LATER),
    )
    refuse_company(teacher, section.size)
    return teacher


def state_digest(module: Module, files: Sequence[str] = ()) -> str:
    """SHA-256 of a module's parameters and buffers, by name, dtype, shape and bytes, and of some files.

    Raises:
        ModelError: there is no such file.
    """
    found = hashlib.sha256()
    state = module.state_dict() if isinstance(module, nn.Module) else {}
    for name, value in sorted(state.items()):
        if isinstance(value, torch.Tensor):
            found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(f"{name} {value!r}\n".encode())
    for path in files:
        found.update(f"{weights_digest(path)}\n".encode())
    return found.hexdigest()


def _of_table(section: Teacher) -> Preprocessing:
    if section.mean is None or section.std is None:
        raise ConfigError(
            f"teacher {section.name!r}: nothing says how its images are normalised; give "
            "preprocessing=stillroom.Preprocessing(mean, std), or stillroom.Preprocessing.none() for pixels in [0, 1], "
            "or set mean and std in its [[teacher]] table"
        )
    return Preprocessing(section.mean, section.std)


def _logits_of(module: Module) -> Module:
    def ask(images: torch.Tensor) -> Any:
        answer = module(images)
        # As models of transformers answer.
        return getattr(answer, "logits", answer)

    return ask


def _device_of(module: Module) -> torch.device:
    if isinstance(module, nn.Module):
        for value in chain(module.parameters(), module.buffers()):
            return value.device
    return torch.device("cpu")
