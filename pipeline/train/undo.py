"""A model's buffers as they were before the last forward pass: running statistics, which a pass changes at once."""

import torch
from torch import nn


class Buffers:
    """Keeps a copy on the model's own device, and puts it back.

    Args:
        model: whose; it keeps its buffers.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: list[torch.Tensor] | None = None

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them as they are now."""
        found = list(self._model.buffers())
        if self._kept is None:
            self._kept = [buffer.clone() for buffer in found]
        elif found:
            torch._foreach_copy_(self._kept, found)

    @torch.no_grad()
    def restore(self) -> None:
        """Have them as they were when they were kept last."""
        assert self._kept is not None
        for buffer, kept in zip(self._model.buffers(), self._kept, strict=True):
            buffer.copy_(kept)
