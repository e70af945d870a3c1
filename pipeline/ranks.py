"""Ranks: the processes that train one student together, as torchrun starts them. Alone, there is nothing to do.

Knows processes and numbers, nothing of models or batches.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as distributed


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
        local: its number on its machine, and so of its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls) -> "Ranks":
        """What torchrun says in the environment; one rank where it says nothing."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, world, local = (int(os.environ.get(name, default)) for name, default in zip(names, "010", strict=True))
        return cls(rank, world, local)

    @property
    def first(self) -> bool:
        """Whether it is this one that writes."""
        return self.rank == 0

    @contextmanager
    def joined(self) -> Iterator["Ranks"]:
        """Meet the others; NCCL on GPUs, Gloo elsewhere. The group is given up at the end."""
        if self.world == 1:
            yield self
            return
        if torch.cuda.is_available():
            torch.cuda.set_device(self.local)
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        try:
            yield self
        finally:
            distributed.destroy_process_group()

    def sum(self, *values: float) -> list[float]:
        """Each number, summed over the ranks: the same on all of them."""
        if self.world == 1:
            return list(values)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(summed)
        return [float(value) for value in summed.tolist()]
