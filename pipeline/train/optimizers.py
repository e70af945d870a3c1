"""Optimisers and schedules of students, by name. Weight decay is decoupled, and on kernels only, in each of them."""

import math
from typing import Any

import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import nn

from stillroom.pipeline.config.sections import Student
from stillroom.storage.errors import ConfigError

_TIMM = {"adamw": "adamw", "sgd": "sgdw", "lamb": "lamb"}
"""timm's names; its `sgdw` is SGD with Nesterov momentum and decoupled decay."""

_OF_DEVICE = ("fused", "foreach")


def build_optimizer(model: nn.Module, settings: Student, fused: bool = False) -> torch.optim.Optimizer:
    """The optimiser that a student's settings name; weights with two or more dimensions decay, biases and norms do not.

    Sources: AdamW and SGDW: Loshchilov, Hutter, "Decoupled weight decay regularization", 1711.05101; LAMB: You and
    others, "Large batch optimization for deep learning", 1904.00962; for Shampoo see `shampoo`.

    Args:
        model: whose weights.
        settings: of the config.
        fused: AdamW as one kernel, which leaves the update out where the attribute `found_inf` is 1.

    Raises:
        ConfigError: Shampoo's package is not installed.
    """
    kernels = [item for item in model.parameters() if item.requires_grad and item.ndim > 1]
    others = [item for item in model.parameters() if item.requires_grad and item.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "shampoo":
        try:
            from .shampoo import Shampoo
        except ImportError as error:
            raise ConfigError(
                f"student {settings.name!r} has optimizer = 'shampoo', whose package is not installed ({error}); "
                "pip install 'stillroom[shampoo]'"
            ) from error
        return Shampoo(groups, settings.learning_rate, settings.momentum, settings.precondition_steps)
    # Optimisers without momentum take none from timm. Its LAMB would clip once more, at a norm of its own.
    more: dict[str, Any] = {"max_grad_norm": None} if settings.optimizer == "lamb" else {}
    if settings.optimizer == "sgd" and not settings.momentum:
        more = {"nesterov": False}
    if settings.optimizer == "adamw" and fused:
        more = {"fused": True}
    made: torch.optim.Optimizer = create_optimizer_v2(
        groups, opt=_TIMM[settings.optimizer], lr=settings.learning_rate, momentum=settings.momentum, **more
    )
    return made


def on_this_device(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state, from whatever device, to be loaded: how its kernels run stays as it is here."""
    if "param_groups" not in state:
        return state
    here = [{name: group[name] for name in _OF_DEVICE if name in group} for group in optimizer.param_groups]
    groups = [{**group, **own} for group, own in zip(state["param_groups"], here, strict=True)]
    return {**state, "param_groups": groups}


def rate_at(step: int, steps: int, warmup: int, schedule: str = "cosine") -> float:
    """Factor on the learning rate at a step, counted from 0: linear over `warmup`, then as the schedule says.

    Args:
        step: from 0 to steps − 1.
        steps: in all.
        warmup: steps of the linear rise.
        schedule: "cosine": half a cosine to zero; "quadratic": the square of what is left; "constant".
    """
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    if schedule == "constant":
        return 1.0
    return (1.0 - share) ** 2 if schedule == "quadratic" else 0.5 * (1.0 + math.cos(math.pi * share))


def schedule_of(settings: Student) -> str:
    """The schedule that a student has: the paper's for its optimiser, unless the config says."""
    return settings.schedule or ("quadratic" if settings.optimizer == "shampoo" else "cosine")


def default_warmup(steps: int) -> int:
    """A twentieth of all steps, and the paper's 1500 at most."""
    return min(1500, steps // 20)
