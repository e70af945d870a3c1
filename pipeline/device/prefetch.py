"""Ahead: a generator's items are made in a thread, on a stream beside other work, before they are asked for.

So a batch is decoded, rendered, mixed and proved while the student is busy with the one before. Knows threads and
lanes; nothing of batches.
"""

import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

from .streams import Streams

T = TypeVar("T")
_Made = tuple[T, Callable[[Iterable[torch.Tensor]], None]] | BaseException | None


class Ahead(Generic[T]):
    """Items of a generator, a few of them made before they are asked for.

    Args:
        items: run, and closed, in the thread alone.
        streams: on which the thread's work on the device is queued.
        tensors: of an item, which whoever asks for it will use on a stream of its own.
        most: items that are made and not asked for, at most.
    """

    def __init__(
        self,
        items: Generator[T, None, None],
        streams: Streams,
        tensors: Callable[[T], Iterable[torch.Tensor]],
        most: int = 1,
    ) -> None:
        self._tensors = tensors
        self._line: _Line[T] = _Line(items, streams, most)
        # A thread that is in DALI when the interpreter ends would take the process with it.
        self._closed = weakref.finalize(self, self._line.stop)

    def __iter__(self) -> "Ahead[T]":
        return self

    def __next__(self) -> T:
        """The next item. The caller's current stream waits for it on the device.

        Raises:
            Exception: what the generator raised.
        """
        made = self._line.take()
        if made is None:
            raise StopIteration
        if isinstance(made, BaseException):
            raise made
        item, join = made
        join(self._tensors(item))
        return item

    def close(self) -> None:
        """Let what is being made be finished, and end. Whoever asks for more finds none."""
        self._closed()


class _Line(Generic[T]):
    """What maker and taker share; the thread knows nothing else, so that an `Ahead` that is dropped ends it."""

    def __init__(self, items: Generator[T, None, None], streams: Streams, most: int) -> None:
        self._items, self._streams = items, streams
        self._room = threading.Semaphore(most)
        self._made: SimpleQueue[_Made[T]] = SimpleQueue()
        self._stopped = False
        self._over = False
        self._thread = threading.Thread(target=self._make, name="ahead", daemon=True)
        self._thread.start()

    def take(self) -> _Made[T]:
        if self._over:
            return None
        made = self._made.get()
        self._room.release()
        self._over = not isinstance(made, tuple)
        return made

    def stop(self) -> None:
        self._stopped = self._over = True
        self._room.release()
        if threading.current_thread() is not self._thread:  # the garbage collector may call from anywhere
            self._thread.join()

    def _make(self) -> None:
        end: BaseException | None = None
        try:
            with self._streams.taken():
                try:
                    while self._room.acquire() and not self._stopped:
                        try:
                            item = next(self._items)
                        except StopIteration:
                            break
                        self._made.put((item, self._streams.mark()))
                        del item
                finally:
                    self._items.close()
        except BaseException as error:
            end = error
        self._made.put(end)
