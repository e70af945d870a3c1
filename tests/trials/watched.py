"""A stand-in for `os` in the local place: notes every call that changes the disk, and kills or fails at one of them.

The product does not know of it: a process that is to be killed puts it where `local` looks for `os`.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stillroom.storage.objects import local
from stillroom.storage.objects.base import temporary_of

OPERATIONS = ("open", "write", "fsync", "close", "replace", "link", "unlink", "mkdir")


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        operation: one of OPERATIONS.
        path: what it was about; where a file gets another name, the new one.
        folder: whether that is a folder.
    """

    operation: str
    path: str
    folder: bool = False

    @property
    def temporary(self) -> bool:
        return temporary_of(self.path) is not None

    @property
    def target(self) -> str:
        """The path, with a temporary file called after what it is to become."""
        folder, _, name = self.path.rpartition("/")
        return f"{folder}/{name.split('-', 5)[5]}" if self.temporary else self.path


@dataclass(frozen=True)
class Kill:
    """Die by SIGKILL right after the n-th call, from 0; or when the first half of what it writes is written."""

    number: int
    half: bool = False


@dataclass(frozen=True)
class Fail:
    """The n-th call of an operation, from 0, fails. A file is closed all the same, as Linux does it."""

    operation: str
    number: int
    error: int


@dataclass(frozen=True)
class Short:
    """Every write takes only some of its bytes."""

    share: float = 0.3


@dataclass(frozen=True)
class Note:
    """Append each call to a file, a JSON line each; change nothing."""

    log: str


Plan = Kill | Fail | Short | Note | None


class WatchedOs:
    """`os`, but for the calls that are watched.

    Args:
        plan: what to do at which call.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._calls = 0
        self._of: dict[str, int] = {}
        self._paths: dict[int, tuple[str, bool]] = {}
        self.seen: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        folder = bool(flags & os.O_DIRECTORY)
        descriptor: int = self._do(Call("open", str(path), folder), lambda: os.open(path, flags, mode))
        self._paths[descriptor] = (str(path), folder)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        call = Call("write", *self._paths[descriptor])
        if isinstance(self._plan, Short):
            data = data[: max(1, int(len(data) * self._plan.share))]
        if self._plan == Kill(self._calls, half=True):
            os.write(descriptor, data[: len(data) // 2])
            _die()
        written: int = self._do(call, lambda: os.write(descriptor, data))
        return written

    def fsync(self, descriptor: int) -> None:
        self._do(Call("fsync", *self._paths[descriptor]), lambda: os.fsync(descriptor))

    def close(self, descriptor: int) -> None:
        path, folder = self._paths.pop(descriptor)
        self._do(Call("close", path, folder), lambda: os.close(descriptor), first=lambda: os.close(descriptor))

    def replace(self, source: Any, target: Any) -> None:
        self._do(Call("replace", str(target)), lambda: os.replace(source, target))  # noqa: PTH105

    def link(self, source: Any, target: Any) -> None:
        self._do(Call("link", str(target)), lambda: os.link(source, target))

    def unlink(self, path: Any) -> None:
        self._do(Call("unlink", str(path)), lambda: os.unlink(path))  # noqa: PTH108

    def mkdir(self, path: Any) -> None:
        self._do(Call("mkdir", str(path), folder=True), lambda: os.mkdir(path))  # noqa: PTH102

    def _do(self, call: Call, act: Callable[[], Any], *, first: Callable[[], None] | None = None) -> Any:
        number, self._calls = self._calls, self._calls + 1
        of, self._of[call.operation] = self._of.get(call.operation, 0), self._of.get(call.operation, 0) + 1
        self.seen.append(call)
        if isinstance(self._plan, Fail) and (self._plan.operation, self._plan.number) == (call.operation, of):
            if first is not None:
                first()
            raise OSError(
                self._plan.error, os.strerror(self._plan.error), None if "sync" in call.operation else call.path
            )
        if isinstance(self._plan, Note):
            with Path(self._plan.log).open("a") as log:
                log.write(json.dumps(asdict(call)) + "\n")
        try:
            return act()
        finally:
            if self._plan == Kill(number):
                _die()


def install(plan: Plan) -> WatchedOs:
    """Watch this process from here on."""
    watched = WatchedOs(plan)
    local.os = watched
    return watched


@contextmanager
def watching(plan: Plan = None) -> Iterator[list[Call]]:
    """Watch this process for a while; the calls as they come."""
    watched = install(plan)
    try:
        yield watched.seen
    finally:
        local.os = os


def read_calls(log: Path) -> list[Call]:
    """What a process with the plan `Note` did."""
    return [Call(**json.loads(line)) for line in log.read_text().splitlines()]


def _die() -> None:
    with suppress(ProcessLookupError):
        os.kill(os.getpid(), signal.SIGKILL)
