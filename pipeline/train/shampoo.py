"""Shampoo with grafting, from pytorch-optimizer, made to be resumed: its state as tensors and plain numbers alone.

The package keeps preconditioners as objects of its own, which a checkpoint that loads no pickles cannot hold.
"""

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_optimizer import ScalableShampoo
from pytorch_optimizer.optimizer.utils.graft import LayerWiseGrafting

BLOCK = 128
"""Edge of the blocks into which a kernel is cut, as in the paper."""


class Shampoo(ScalableShampoo):  # type: ignore[misc]
    """Second-order preconditioning by blocks, with the size of each update taken from RMSProp, and Nesterov momentum.

    Sources: Gupta, Koren, Singer, "Shampoo: preconditioned stochastic tensor optimization", 1802.09568; Anil and
    others, "Scalable second order optimization for deep learning", 2002.09018.

    Args:
        params: groups, each with its own "weight_decay", which is decoupled.
        lr: learning rate.
        momentum: decay of the first moment.
        every: steps between inversions of the preconditioners; the paper inverts at every one.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float, every: int) -> None:
        super().__init__(
            list(params),
            lr=lr,
            betas=(momentum, 0.999),
            # The first updates are RMSProp's, until the statistics say something.
            start_preconditioning_step=max(5, every),
            preconditioning_compute_steps=every,
            block_size=BLOCK,
            graft_type=LayerWiseGrafting.RMSPROP,
            nesterov=True,
            moving_average_for_momentum=True,
            decoupled_weight_decay=True,
        )

    def step(self, closure: Any = None) -> Any:
        """One step. The package's power iterations start at random vectors; here they depend on the step alone."""
        taken = int(self.param_groups[0].get("step", 0))
        used = [item.device.index for group in self.param_groups for item in group["params"] if item.is_cuda]
        with torch.random.fork_rng(sorted(set(used))):  # by default every GPU that there is, other ranks' too
            torch.manual_seed(taken)
            return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers."""
        groups = [{name: value for name, value in group.items() if name != "params"} for group in self.param_groups]
        return {"groups": groups, "state": [_tensors(self.state.get(item)) for item in self._all()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for item in self._all():
            item.grad = torch.zeros_like(item)
        for group, stored in zip(self.param_groups, state_dict["groups"], strict=True):
            self.init_group(group)
            group.update(stored)
        for item, stored in zip(self._all(), state_dict["state"], strict=True):
            if stored is None:
                self.state.pop(item, None)
            else:
                _restore(self.state[item], stored)
            item.grad = None

    def _all(self) -> list[torch.Tensor]:
        return [item for group in self.param_groups for item in group["params"]]


def _tensors(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """One parameter's state: the momentum, and each object's tensors by name."""
    if not state:
        return None
    return {name: value if isinstance(value, torch.Tensor) else _of_object(value) for name, value in state.items()}


def _of_object(thing: object) -> dict[str, Any]:
    return {name: value for name, value in vars(thing).items() if _is_tensors(value)}


def _is_tensors(value: object) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, list) and all(isinstance(item, torch.Tensor) for item in value)
    )


def _restore(state: dict[str, Any], stored: dict[str, Any]) -> None:
    for name, value in stored.items():
        if isinstance(value, torch.Tensor):
            state[name] = value.to(state[name].device)
            continue
        for attribute, tensors in value.items():
            mine = getattr(state[name], attribute)
            device = (mine if isinstance(mine, torch.Tensor) else mine[0]).device if len(mine) else None
            moved = tensors.to(device) if isinstance(tensors, torch.Tensor) else [item.to(device) for item in tensors]
            setattr(state[name], attribute, moved)
