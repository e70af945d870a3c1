"""A device that is late, without a GPU: what is fetched holds rubbish until it is waited for, as on a slow stream."""

import threading
import time

import torch

from stillroom.pipeline.device.streams import Arrival, Streams


class LateStreams(Streams):
    """Streams on which everything arrives when it is waited for, and no earlier.

    Attributes:
        waited: how many arrivals were waited for, by which thread.
        joined: how often somebody took over what was made on it.
    """

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.waited: list[str] = []
        self.joined = 0

    @property
    def beside(self) -> bool:
        return True

    def fetch(self, tensor: torch.Tensor) -> Arrival:
        host = torch.full_like(tensor, 113)

        def wait() -> None:
            time.sleep(0.001)
            self.waited.append(threading.current_thread().name)
            host.copy_(tensor)

        return Arrival(host, wait)

    def mark(self):
        def join(tensors):
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors)
            self.joined += 1

        return join
