"""Optimiser and schedule of a student: AdamW with decay on kernels only, warm-up, then cosine to zero."""

import math

import torch
from torch import nn


def build_optimizer(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; weights with two or more dimensions decay, biases and norms do not.

    Source: Loshchilov, Hutter, "Decoupled weight decay regularization", 1711.05101.
    """
    kernels = [item for item in model.parameters() if item.requires_grad and item.ndim > 1]
    others = [item for item in model.parameters() if item.requires_grad and item.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Factor on the learning rate at a step, counted from 0: linear over `warmup`, then half a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def default_warmup(steps: int) -> int:
    """A twentieth of all steps, and the paper's 1500 at most."""
    return min(1500, steps // 20)
