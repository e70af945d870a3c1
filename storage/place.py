"""A place: a URL under which named objects are read whole, by range, and written whole.

Writing is atomic everywhere: a reader finds the old object, the new one or none, never a part. Knows nothing of what
the objects mean.
"""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .process import Process

TEMPORARY = ".partial-"
"""Prefix of a file that is being written; its process follows. What still has it after a kill is garbage."""

PIECE = 32 * 2**20
"""Bytes of a large object that are in memory at a time where not all of it is wanted there."""


def temporary_of(name: str) -> Process | None:
    """The process that is writing, or was killed while writing, a temporary file; None for any other file."""
    file = name.rpartition("/")[2]
    if not file.startswith(TEMPORARY):
        return None
    return Process.from_short("-".join(file.removeprefix(TEMPORARY).split("-")[:3]))


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
        """Write an object whole where there is none of that name.

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
