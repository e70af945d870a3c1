"""A place in an object store, through fsspec."""

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from .errors import MissingObjectError
from .place import Place


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
        self.filesystem.pipe_file(self._with_folder(name), bytes(data))

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """One conditional PUT."""
        try:
            self.filesystem.pipe_file(self._with_folder(name), bytes(data), mode="create")
        except FileExistsError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        self.filesystem.invalidate_cache()
        for path in sorted(self.filesystem.find(self._path(prefix))):
            yield path.removeprefix(self.root).lstrip("/")

    def times(self, prefix: str = "") -> dict[str, float]:
        self.filesystem.invalidate_cache()
        found = self.filesystem.find(self._path(prefix), detail=True).items()
        stamps = {path: info.get("LastModified") or info.get("mtime") or info.get("created") for path, info in found}
        return {
            path.removeprefix(self.root).lstrip("/"): stamp.timestamp() if hasattr(stamp, "timestamp") else float(stamp)
            for path, stamp in stamps.items()
            if stamp
        }

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

    def _with_folder(self, name: str) -> str:
        path = self._path(name)
        if hasattr(self.filesystem, "store"):  # fsspec's memory file system keeps real folders
            self.filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        return path

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/") if name else self.root

    @contextmanager
    def _missing_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingObjectError(f"{self.url}/{name} does not exist") from error
