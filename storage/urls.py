"""A place is a URL under which named objects are read whole, by range, and written whole.

Writing is atomic everywhere: a reader finds the old object, the new one or none, never a part. Knows nothing of what
the objects mean.
"""

import builtins
import os
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec

from .errors import MissingObjectError, StoreError

TEMPORARY = ".partial-"
"""Prefix of a file that is being written. What still has it after a kill is garbage."""


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

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Size of an object in bytes, or None where there is none."""

    @abstractmethod
    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write an object whole, replacing what was there; durable on return."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Names of all objects under the folder `prefix`, sorted. Temporary files are among them."""

    @abstractmethod
    def folders(self, prefix: str = "") -> "builtins.list[str]":
        """Names of the folders directly under the folder `prefix`, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object; no error where there is none."""

    @abstractmethod
    def at(self, name: str) -> "Place":
        """The place one folder down."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """An object as a seekable file.

        Raises:
            MissingObjectError: there is none of that name.
        """

    def local(self, name: str = "") -> Path | None:  # noqa: ARG002
        """The path of an object where this is a local folder, else None."""
        return None

    def __str__(self) -> str:
        return self.url


def open_place(url: str) -> Place:
    """The place at `url`: a path, `file://…`, or any URL that fsspec knows, such as `s3://bucket/prefix`.

    Raises:
        StoreError: fsspec does not know the protocol, or its package is not installed.
    """
    if url.startswith("file://"):
        return LocalPlace(Path(url.removeprefix("file://")))
    if "://" not in url:
        return LocalPlace(Path(url))
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(f"{url} cannot be opened: {error}") from error
    return RemotePlace(filesystem, root, url)


def open_parent(url: str) -> tuple[Place, str]:
    """The place that holds one object, and the object's name there."""
    folder, slash, name = url.rpartition("/")
    return open_place(folder or slash or "."), name


class LocalPlace(Place):
    """A folder on a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def read(self, name: str) -> bytes:
        with self._missing_named(name):
            return (self.root / name).read_bytes()

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with self._missing_named(name), (self.root / name).open("rb") as file:
            file.seek(start)
            return file.read(max(0, stop - start))

    def size(self, name: str) -> int | None:
        try:
            status = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Temporary file, fsync, rename, fsync of the folder."""
        path = self.root / name
        _make_folder(path.parent)
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)  # a full disk is no use to a reader without the place
            raise
        _sync_folder(path.parent)

    def list(self, prefix: str = "") -> Iterator[str]:
        root = str(self.root)
        walked = os.walk(self.root / prefix)
        names = [os.path.relpath(f"{path}/{file}", root) for path, _, files in walked for file in files]
        yield from sorted(names)

    def folders(self, prefix: str = "") -> "builtins.list[str]":
        folder = self.root / prefix
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def at(self, name: str) -> "LocalPlace":
        return LocalPlace(self.root / name)

    def open(self, name: str) -> IO[bytes]:
        with self._missing_named(name):
            return (self.root / name).open("rb")

    def local(self, name: str = "") -> Path:
        return self.root / name

    @contextmanager
    def _missing_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingObjectError(f"{self.root / name} does not exist") from error


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, each durable in its own parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RemotePlace(Place):
    """A prefix of an object store, through fsspec. One PUT is atomic there."""

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/")
        self.url = url.rstrip("/")

    def read(self, name: str) -> bytes:
        with self._missing_named(name):
            return bytes(self.filesystem.cat_file(self._path(name)))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with self._missing_named(name):
            return bytes(self.filesystem.cat_file(self._path(name), start=start, end=stop))

    def size(self, name: str) -> int | None:
        try:
            info = self.filesystem.info(self._path(name))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def write(self, name: str, data: bytes | memoryview) -> None:
        path = self._path(name)
        if hasattr(self.filesystem, "store"):  # fsspec's memory file system keeps real folders
            self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.filesystem.pipe_file(path, bytes(data))

    def list(self, prefix: str = "") -> Iterator[str]:
        self.filesystem.invalidate_cache()
        for path in sorted(self.filesystem.find(self._path(prefix))):
            yield path.removeprefix(self.root).lstrip("/")

    def folders(self, prefix: str = "") -> "builtins.list[str]":
        self.filesystem.invalidate_cache()
        try:
            entries = self.filesystem.ls(self._path(prefix), detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "directory")

    def delete(self, name: str) -> None:
        if self.size(name) is not None:
            self.filesystem.rm_file(self._path(name))

    def at(self, name: str) -> "RemotePlace":
        return RemotePlace(self.filesystem, self._path(name), f"{self.url}/{name}")

    def open(self, name: str) -> IO[bytes]:
        with self._missing_named(name):
            file: IO[bytes] = self.filesystem.open(self._path(name), "rb")
            return file

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/") if name else self.root

    @contextmanager
    def _missing_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingObjectError(f"{self.url}/{name} does not exist") from error
