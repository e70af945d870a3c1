"""Streams: what is on its way between a device and the host, or is queued beside the device's other work.

They order copies and small work by events, so that nobody waits for the device who does not need the answer yet. On
the CPU everything has happened when a call returns, and nothing has to be ordered. Knows tensors and streams; nothing
of images or models.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch


class Arrival:
    """A tensor on its way to the host.

    Args:
        host: where it will be.
        wait: returns when it is there; None where it is there already.
    """

    def __init__(self, host: torch.Tensor, wait: Callable[[], None] | None = None) -> None:
        self._host, self._wait = host, wait

    @property
    def late(self) -> bool:
        """Whether it may be on its way still."""
        return self._wait is not None

    def get(self) -> torch.Tensor:
        """The tensor on the host. Blocks until it is there; any thread may ask."""
        if self._wait is not None:
            self._wait()
        return self._host


class Streams:
    """The host's own: nothing is ever on its way.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def beside(self) -> bool:
        """Whether work on it goes on while its thread does something else, so that being ahead pays."""
        return False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within it, the thread's work on the device is queued on these streams, beside that of others."""
        yield

    def fetch(self, tensor: torch.Tensor) -> Arrival:
        """Begin to bring a tensor to the host; it must not be changed in place until it has arrived."""
        return Arrival(tensor.cpu())

    def mark(self) -> Callable[[Iterable[torch.Tensor]], None]:
        """A hand-over of all that this thread has queued on them so far.

        Returns:
            To be called by whoever goes on with the tensors, on the stream that it works on: its later work waits on
            the device, not on the host, until they are made.
        """
        return lambda _: None


class CudaStreams(Streams):
    """Those of a GPU: one for work beside the others', and one for copies to pinned memory."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._work = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @property
    def beside(self) -> bool:
        return True

    @contextmanager
    def taken(self) -> Iterator[None]:
        # Both are the thread's own: a new thread begins on the first GPU and its default stream.
        with torch.cuda.device(self.device), torch.cuda.stream(self._work):
            yield

    def fetch(self, tensor: torch.Tensor) -> Arrival:
        if not tensor.is_cuda:
            return Arrival(tensor)
        # torch hands out pinned memory again only when the copy into it is done, whenever the tensor is dropped.
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        # Whoever waits sleeps, and leaves the core to the decoder.
        arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._copies.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._copies):
            host.copy_(tensor, non_blocking=True)
            arrived.record(self._copies)
        # Where the memory is torch's, it is not handed out again before the copy; where DALI's, see `renderer`.
        tensor.record_stream(self._copies)
        return Arrival(host, arrived.synchronize)

    def mark(self) -> Callable[[Iterable[torch.Tensor]], None]:
        made = torch.cuda.Event()  # type: ignore[no-untyped-call]
        made.record(torch.cuda.current_stream(self.device))

        def join(tensors: Iterable[torch.Tensor]) -> None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(made)
            for tensor in tensors:
                if tensor.is_cuda:
                    tensor.record_stream(stream)

        return join


def streams_of(device: torch.device) -> Streams:
    """New streams of a device."""
    return CudaStreams(device) if device.type == "cuda" else Streams(device)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same on a device, in the order of the thread's current stream. From the host it goes by way of pinned memory.

    A copy from other memory would hold up the thread until all that is queued before it is done.
    """
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    pinned = tensor if tensor.device.type != "cpu" or tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
