"""CUDA graphs: a forward pass of one shape, recorded once and launched as a whole.

Worth it where launching the kernels takes longer than running them: small models, small batches.
"""

from collections.abc import Callable

import torch

_WARM = 3
"""Passes before recording, in which libraries choose their kernels and allocate what they keep."""


class Graph:
    """A function of one tensor, recorded.

    To be made before anything else works on the device in this process: DALI's threads wait for the whole device,
    which is an error while a stream records (CUDA programming guide, "Prohibited and Unhandled Operations").

    Args:
        function: from a tensor to a tensor, on the device throughout; reads nothing back.
        example: a tensor of the one shape, on a GPU.
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], example: torch.Tensor) -> None:
        self._given = example.clone(memory_format=torch.preserve_format)
        device = example.device
        torch.cuda.synchronize(device)
        with torch.cuda.device(device):
            beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM):
                    function(self._given)
            torch.cuda.current_stream().wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._found = function(self._given)

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """The function's answer to a tensor of the same shape and dtype; a tensor of its own, the graph's is reused."""
        assert given.shape == self._given.shape
        self._given.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._found.clone()
