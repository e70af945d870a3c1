"""A place in an object store, through fsspec.

Each request is tried again while it fails for a reason that passes, so each may have been carried out without our
having heard of it: see `create` and `delete`. What does not pass is said in our words, without a client's or server's.
"""

import builtins
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

from stillroom.storage.errors import MissingObjectError, UnreachableError

from .base import Place
from .error_kinds import called, kind_of, remedy
from .fsspec_clients import FileSystem
from .retry import GaveUpError, Retry

T = TypeVar("T")


class RemotePlace(Place):
    """A prefix of an object store. One PUT is atomic there.

    Raises:
        UnreachableError: from every method: the store does not answer, or refuses; names the URL and the remedy.
    """

    def __init__(self, opened: FileSystem, root: str, url: str, retry: Retry) -> None:
        self.opened = opened
        self.root = root.rstrip("/")
        self.url = url.rstrip("/")
        self.retry = retry

    @property
    def filesystem(self) -> Any:
        """fsspec's, of this process."""
        return self.opened.get()

    def read(self, name: str) -> bytes:
        """One request."""
        with self._missing_named(name):
            return self._try("read", name, lambda fs, path, _: bytes(fs.cat_file(path, **self.opened.read_whole)))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """One request; bytes that a store gives beyond what was asked for are left out."""
        if stop <= start:  # which HTTP has no words for
            if self.size(name) is None:
                raise MissingObjectError(f"{self.url}/{name} does not exist")
            return b""

        def request(fs: Any, path: str, _: int) -> bytes:
            try:
                return bytes(fs.cat_file(path, start=start, end=stop))
            except Exception as error:
                if kind_of(error) == "beyond":
                    return b""
                raise

        with self._missing_named(name):
            return self._try("read", name, request)

    def size(self, name: str) -> int | None:
        try:
            info = self._try("looked for", name, lambda fs, path, _: fs.info(path))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def write(self, name: str, data: bytes | memoryview) -> None:
        """One PUT; again, with the same bytes, where no answer came: to do it twice does no harm."""
        body = bytes(data)
        self._try("written", name, lambda fs, path, _: fs.pipe_file(_with_folder(fs, path), body))

    def write_file(self, name: str, file: IO[bytes]) -> None:
        """One PUT, or an upload in parts that is an object only when all of them are there; again as `write`."""
        # Clients read it by a path, and a nameless file has none but this.
        source = f"/proc/self/fd/{file.fileno()}"
        self._try(
            "written",
            name,
            lambda fs, path, _: fs.put_file(source, _with_folder(fs, path), **self.opened.in_parts),
        )

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """One conditional PUT (If-None-Match: *).

        To find the name taken says nothing yet: an earlier attempt may have been carried out and its answer lost, of
        which we need not know (aiohttp itself repeats a PUT when a connection that was used before breaks). So the
        object is read, and if it holds these bytes, it is ours.
        """
        body = bytes(data)

        def request(fs: Any, path: str, _: int) -> bool:
            try:
                fs.pipe_file(_with_folder(fs, path), body, mode="create")
            except Exception as error:
                if kind_of(error) != "taken":
                    raise
                return self._holds(name, body)
            return True

        return self._try("created", name, request)

    def list(self, prefix: str = "") -> Iterator[str]:
        yield from sorted(self._found(prefix))

    def times(self, prefix: str = "") -> dict[str, float]:
        found = self._found(prefix).items()
        stamps = {name: info.get("LastModified") or info.get("mtime") or info.get("created") for name, info in found}
        return {
            name: stamp.timestamp() if hasattr(stamp, "timestamp") else float(stamp)
            for name, stamp in stamps.items()
            if isinstance(stamp, int | float) or hasattr(stamp, "timestamp")
        }

    def folders(self, prefix: str = "") -> "builtins.list[str]":
        try:
            entries = self._try("listed", prefix, lambda fs, path, _: fs.ls(path, detail=True))
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "directory")

    def delete(self, name: str, only: bytes | None = None) -> None:
        """One request. With `only` it looks before each attempt: after one without an answer, it may be another's."""

        def request(fs: Any, path: str, _: int) -> None:
            if only is None or self._holds(name, only):
                fs.rm_file(path)

        try:
            self._try("deleted", name, request)
        except FileNotFoundError:
            return

    def at(self, name: str) -> "RemotePlace":
        return RemotePlace(self.opened, self._path(name), f"{self.url}/{name}", self.retry)

    def open(self, name: str) -> IO[bytes]:
        """Read at once: what is opened here is small."""
        return io.BytesIO(self.read(name))

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.read(name) == data
        except MissingObjectError:
            return False

    def _found(self, prefix: str) -> dict[str, Any]:
        """What is under a folder, by name; an object of the folder's own name is not."""
        try:
            found = self._try("listed", prefix, lambda fs, path, _: fs.find(path, detail=True))
        except FileNotFoundError:
            return {}
        start, folder = f"{self.root}/", f"{self._path(prefix)}/"
        return {path.removeprefix(start): info for path, info in found.items() if path.startswith(folder)}

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/") if name else self.root

    def _try(self, done: str, name: str, request: Callable[[Any, str, int], T]) -> T:
        """A request's result, tried again while that may help.

        Args:
            done: what was to be done to the object, for people.
            name: of the object.
            request: given the file system, the object's path there, and how many attempts failed.

        Raises:
            FileNotFoundError: there is no such object.
            UnreachableError: it cannot be done.
        """
        path, url = self._path(name), f"{self.url}/{name}".rstrip("/")
        try:
            return self.retry.call(
                lambda failed: request(self.filesystem, path, failed), lambda error: kind_of(error) == "passing"
            )
        except GaveUpError as error:
            raise UnreachableError(
                f"{url} could not be {done}: {error}, the last one: {called(error.last)}; what was finished is "
                "kept, run again when the store answers"
            ) from None
        except Exception as error:
            kind = kind_of(error)
            if kind == "missing":
                raise FileNotFoundError(url) from None
            if kind is None or isinstance(error, UnreachableError):
                raise
            raise UnreachableError(f"{url} could not be {done} ({called(error)}): {remedy(error, url)}") from None

    @contextmanager
    def _missing_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingObjectError(f"{self.url}/{name} does not exist") from error


def _with_folder(filesystem: Any, path: str) -> str:
    if hasattr(filesystem, "store"):  # fsspec's memory file system keeps real folders
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
    return path
