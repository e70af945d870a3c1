"""A place on a local or shared file system, whose writes outlive a crash of the machine once they return.

Whatever writes to the disk goes through `os` here, so that tests can watch each call, and kill or fail at it.
"""

import builtins
import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from stillroom.storage.errors import MissingObjectError

from .base import PIECE, Place, temporary_name


class LocalPlace(Place):
    """A folder on a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def read(self, name: str) -> bytes:
        # A path object for each of tens of thousands of records would take as long as reading them.
        with self._missing_named(name), open(f"{self.root}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            return file.readall()

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
        self._replace(name, [data])

    def write_file(self, name: str, file: IO[bytes]) -> None:
        self._replace(name, _pieces(file.fileno()))

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Temporary file, fsync, link, fsync of the folder. The link fails where the name is taken, on network file
        systems too.
        """
        path = self.root / name
        with _temporary(path, [data]) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                if not _create_without_links(path, data):
                    return False
            finally:
                _unlink_if_possible(temporary)
        try:
            _sync_folder(path.parent)
        except BaseException:
            _unlink_if_possible(path)  # else a claim would stay that its writer does not know of
            raise
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        root = str(self.root)
        walked = os.walk(self.root / prefix, onerror=_raise_unless_missing)
        names: builtins.list[str] = []
        for path, _, files in walked:
            folder = os.path.relpath(path, root)
            names += files if folder == "." else [f"{folder}/{file}" for file in files]
        yield from sorted(names)

    def times(self, prefix: str = "") -> dict[str, float]:
        found = {}
        for name in self.list(prefix):
            with suppress(FileNotFoundError):
                found[name] = os.stat(f"{self.root}/{name}").st_mtime  # noqa: PTH116
        return found

    def folders(self, prefix: str = "") -> "builtins.list[str]":
        folder = self.root / prefix
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []

    def delete(self, name: str, only: bytes | None = None) -> None:
        with suppress(FileNotFoundError, MissingObjectError):
            if only is not None and self.read(name) != only:
                return
            os.unlink(self.root / name)  # noqa: PTH108

    def delete_folder(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root / folder)

    def at(self, name: str) -> "LocalPlace":
        return LocalPlace(self.root / name)

    def open(self, name: str) -> IO[bytes]:
        with self._missing_named(name):
            return (self.root / name).open("rb")

    def local(self, name: str = "") -> Path:
        return self.root / name

    def _replace(self, name: str, data: Iterable[bytes | memoryview]) -> None:
        path = self.root / name
        with _temporary(path, data) as temporary:
            os.replace(temporary, path)  # noqa: PTH105
        _sync_folder(path.parent)

    @contextmanager
    def _missing_named(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingObjectError(f"{self.root / name} does not exist") from error


@contextmanager
def _temporary(path: Path, data: Iterable[bytes | memoryview]) -> Iterator[Path]:
    """A file beside `path` that holds `data`, durable; gone after an error."""
    _make_folder(os.path.abspath(path.parent))  # noqa: PTH100
    temporary = path.with_name(temporary_name(path.name))
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            for piece in data:
                left = memoryview(piece)
                while left:
                    left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    except BaseException as error:
        _unlink_if_possible(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is no use to a reader without the place
        raise


def _pieces(file: int) -> Iterator[bytes]:
    start = 0
    while piece := os.pread(file, PIECE, start):
        yield piece
        start += len(piece)


def _unlink_if_possible(temporary: Path) -> None:
    """What cannot be removed is garbage, no failure: the object itself is written, or its own error is on its way."""
    with suppress(OSError):
        os.unlink(temporary)  # noqa: PTH108


def _create_without_links(path: Path, data: bytes | memoryview) -> bool:
    """For file systems that know no hard links, such as mounted buckets; a reader may find it empty for a moment."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _unlink_if_possible(path)
        raise
    return True


_durable: set[str] = set()
"""Folders whose entry in their parent this process has made durable: once each, since it costs an fsync."""


def _make_folder(folder: str) -> None:
    """Create a folder and its parents, each durable in its own parent.

    One that is there may have been made by a process that was killed before it could see to that.
    """
    there = os.path.isdir(folder)  # noqa: PTH112
    if there and (folder in _durable or os.path.ismount(folder)):
        return
    parent = os.path.dirname(folder)  # noqa: PTH120
    if there and not os.access(parent, os.W_OK):
        return  # nobody like us has made it
    _make_folder(parent)
    if not there:
        with suppress(FileExistsError):  # another writer was faster; a file of that name fails when it is used
            os.mkdir(folder)  # noqa: PTH102
    _sync_folder(parent)
    _durable.add(folder)


def _sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be listed is not an empty one: `gc` would take all that it holds for garbage."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
