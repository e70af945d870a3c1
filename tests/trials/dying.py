"""A process that dies at its n-th call of the system: no later call of it has any effect, clean-up included."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from stillroom.storage.objects.process_id import Process

_CALLS = frozenset({"open", "write", "fsync", "close", "replace", "link", "unlink", "mkdir"})


class Died(BaseException):
    """What every call of the dead process raises."""


class _Mortal:
    """The `os` module for a process that dies.

    Args:
        left: calls until then.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Died
            return call(*arguments, **more)

        return guard

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return self.guarded(found) if name in _CALLS else found


@contextmanager
def dying_after(calls: int) -> Iterator[None]:
    """Whatever local places do in here is done by a process that dies after so many calls; ends quietly when it has."""
    mortal = _Mortal(calls)
    with ExitStack() as stack:
        stack.enter_context(mock.patch("stillroom.storage.objects.local.os", mortal))
        for name in ("unlink", "mkdir"):
            # Bound to the class, so that it is called with the path.
            real = getattr(Path, name)
            stack.enter_context(mock.patch.object(Path, name, _method(mortal, real)))
        with suppress(Died):
            yield


def _method(mortal: _Mortal, real: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Path, *arguments: Any, **more: Any) -> Any:
        return mortal.guarded(real)(self, *arguments, **more)

    return method


@contextmanager
def as_another_process() -> Iterator[None]:
    """Claims and temporary files that are made in here are those of a process that has ended since."""
    ended = replace(Process.here(), started=1)
    with mock.patch.object(Process, "here", return_value=ended):
        yield
