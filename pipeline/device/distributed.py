"""Ranks: the processes that train one student together, as torchrun starts them. Alone, there is nothing to do.

Knows processes and numbers, nothing of models or batches.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from stillroom.storage.errors import StillroomError

from .device import own_device

_PATIENCE = timedelta(days=1)
"""How long a rank waits for another: while the first one evaluates, say. Of one that died, torchrun lets all know."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> "Ranks":
        """What torchrun says in the environment; one rank where it says nothing."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @classmethod
    def here(cls) -> "Ranks":
        """The ranks that have met; one where none have, whatever the environment says."""
        return cls.of_environment() if distributed.is_initialized() else cls()

    @property
    def one_machine(self) -> bool:
        """Whether all ranks are on this machine, so that they agree on how often they were restarted."""
        return os.environ.get("LOCAL_WORLD_SIZE") == str(self.world)

    @property
    def first(self) -> bool:
        """Whether it is this one that writes."""
        return self.rank == 0

    @contextmanager
    def joined(self) -> Iterator["Ranks"]:
        """Meet the others; NCCL on GPUs, Gloo elsewhere. The group is given up at the end.

        Raises:
            StillroomError: another rank failed meanwhile.
        """
        if self.world == 1:
            yield self
            return
        if torch.cuda.is_available():
            torch.cuda.set_device(own_device())
        store, _, _ = next(rendezvous("env://", self.rank, self.world, timeout=_PATIENCE))
        if self.one_machine:
            # A restarted job gets the same store, where the addresses of those who died still stand.
            store = PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=self.rank, world_size=self.world, timeout=_PATIENCE)
        try:
            yield self
        except RuntimeError as error:
            if not isinstance(error, StillroomError) and _of_another(error):
                raise StillroomError(f"rank {self.rank} lost another rank, whose message says why ({error})") from error
            raise
        finally:
            distributed.destroy_process_group()

    def sum(self, *values: float) -> list[float]:
        """Each number, summed over the ranks: the same on all of them."""
        if self.world == 1:
            return list(values)
        summed = self.all_reduce(torch.tensor(values, dtype=torch.float64, device=own_device()))
        return [float(value) for value in summed.tolist()]

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """The same for numbers on this rank's device, in place: float64 [n]."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def broadcast(self, value: int) -> int:
        """What the first rank says."""
        return int(self.sum(value if self.first else 0)[0])


def _of_another(error: RuntimeError) -> bool:
    if isinstance(error, distributed.DistError):
        return True
    return any(sign in str(error) for sign in ("gloo", "Connection closed by peer", "NCCL"))
