"""A place: a URL under which named objects are read whole, by range, and written whole.

Writing is atomic everywhere: a reader finds the old object, the new one or none, never a part. Knows nothing of what
the objects mean.
"""

import builtins
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .process_id import Process

TEMPORARY = ".partial-"
"""Prefix of a file, or of a scratch folder, in the making; its process follows. What a kill leaves of it is garbage."""

PIECE = 32 * 2**20
"""Bytes of a large object that are in memory at a time where not all of it is wanted there."""


def temporary_name(name: str) -> str:
    """A new name for a temporary file or folder of this process that is to become `name`, or to serve it."""
    return f"{TEMPORARY}{Process.here().short()}-{secrets.token_hex(6)}-{name}"


def temporary_root(path: str) -> str | None:
    """The temporary file or folder that a path is or lies in; None for any other path."""
    folders = path.split("/")
    for depth, name in enumerate(folders, 1):
        if name.startswith(TEMPORARY):
            return "/".join(folders[:depth])
    return None


def temporary_of(path: str) -> Process | None:
    """The process that is writing, or was killed while writing, a temporary path; None for any other path."""
    root = temporary_root(path)
    if root is None:
        return None
    return Process.from_short("-".join(root.rpartition("/")[2].removeprefix(TEMPORARY).split("-")[:3]))


class Place(ABC):
    """Objects under one URL, named by relative paths with "/"."""

    url: str

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole object.

        Raises:
            MissingObjectError: there is none of that name.
        """

    @abstractmethod
    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object; fewer where it ends before `stop`.

        Raises:
            MissingObjectError: there is none of that name.
        """

    def pieces(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes [start, stop) of an object as `read_range` gives them, in order, each of at most `PIECE` bytes."""
        for first in range(start, stop, PIECE):
            yield self.read_range(name, first, min(first + PIECE, stop))

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Size of an object in bytes, or None where there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write an object whole, replacing what was there; durable on return."""

    @abstractmethod
    def write_file(self, name: str, file: IO[bytes]) -> None:
        """Write what an open file on disk holds, from its start, as an object; else as `write`.

        For what should not be in memory whole.
        """

    @abstractmethod
    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Write an object whole where there is none of that name; durable on return.

        Args:
            name: of the object.
            data: which no other caller brings for that name: by them a writer that got no answer knows its own.

        Returns:
            Whether it was written; False where there was one. Of several callers at once, one gets True.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Names of all objects under the folder `prefix`, sorted. Temporary files are among them."""

    @abstractmethod
    def folders(self, prefix: str = "") -> "builtins.list[str]":
        """Names of the folders directly under the folder `prefix`, sorted."""

    @abstractmethod
    def delete(self, name: str, only: bytes | None = None) -> None:
        """Remove an object; no error where there is none.

        Args:
            name: of the object.
            only: remove it where it holds these bytes alone, as it is now. Looking and removing are two steps.
        """

    def delete_folder(self, folder: str) -> None:
        """Remove every object under a folder; no error where there is none."""
        for name in list(self.list(folder)):
            self.delete(name)

    @contextmanager
    def scratch(self, name: str) -> "Iterator[Place]":
        """An empty place of this process's own, below this one; what is in it goes at the end, or by `gc` after a kill.

        Args:
            name: what it is for.
        """
        folder = temporary_name(name)
        try:
            yield self.at(folder)
        finally:
            with suppress(OSError):  # what cannot be removed is garbage, no failure
                self.delete_folder(folder)

    @abstractmethod
    def at(self, name: str) -> "Place":
        """The place one folder down."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """An object as a seekable file.

        Raises:
            MissingObjectError: there is none of that name.
        """

    def times(self, prefix: str = "") -> dict[str, float]:  # noqa: ARG002
        """When objects under a folder were last written, in seconds since 1970; none where that is not known."""
        return {}

    def local(self, name: str = "") -> Path | None:  # noqa: ARG002
        """The path of an object where this is a local folder, else None."""
        return None

    def __str__(self) -> str:
        return self.url
