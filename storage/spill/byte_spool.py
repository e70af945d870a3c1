"""Bytes that come in order and are read at any place: in memory, or beyond an allowance in a nameless file.

What is as large as a data shard, and is made or looked through before it is written or believed. Knows nothing of what
is in the bytes.
"""

import io
import sys
import weakref
from typing import IO, Protocol

import xxhash

from stillroom.storage.errors import MissingObjectError
from stillroom.storage.ledger.record import ObjectDigest
from stillroom.storage.objects.base import Place

from .temp_files import nameless_file, naming_its_folder, read_at, write_at


class Slices(Protocol):
    """Bytes of which any part can be had: `bytes`, or a `Spool`."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class Spool:
    """Bytes that are appended to. A file object as far as writing goes.

    Args:
        within: bytes of memory. More go into a nameless file in the folder for temporary files, which outlives no
            process, however that ends.

    Raises:
        OSError: from `write`: there is no room for that file; names the folder.
    """

    def __init__(self, within: int = sys.maxsize) -> None:
        self._within, self._size = within, 0
        self._memory: io.BytesIO | None = io.BytesIO()
        self._file: IO[bytes] | None = None
        self._digest = xxhash.xxh3_128()

    @classmethod
    def reading(cls, place: Place, name: str, within: int) -> "Spool":
        """An object as it is now: read in one go where it fits, in pieces otherwise.

        Raises:
            MissingObjectError: there is none of that name.
        """
        size = place.size(name)
        if size is None:
            raise MissingObjectError(f"{place}/{name} does not exist")
        if size <= within:
            return cls.of(place.read(name))
        found = cls(within)
        for piece in place.pieces(name, 0, size):
            found.write(piece)
        return found

    @classmethod
    def of(cls, data: bytes) -> "Spool":
        """What is in memory, without a copy."""
        found = cls()
        found._memory = io.BytesIO(data)
        found._memory.seek(0, io.SEEK_END)
        found._digest.update(data)
        found._size = len(data)
        return found

    def write(self, data: bytes | memoryview) -> int:
        """Append."""
        if self._memory is not None and self._size + len(data) > self._within:
            self._file = nameless_file()
            weakref.finalize(self, self._file.close)
            held, self._memory = self._memory, None
            with held.getbuffer() as before, naming_its_folder():
                write_at(self._file.fileno(), before, 0)
        if self._memory is not None:
            self._memory.write(data)
        else:
            assert self._file is not None
            with naming_its_folder():
                write_at(self._file.fileno(), memoryview(data), self._size)
        self._digest.update(data)
        self._size += len(data)
        return len(data)

    @property
    def written(self) -> ObjectDigest:
        """Size and digest of what is there."""
        return ObjectDigest(self._size, str(self._digest.hexdigest()))

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        """A file is there while it is empty, too."""
        return True

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, step = part.indices(self._size)
        assert step == 1
        if self._memory is not None:
            with self._memory.getbuffer() as buffer:
                return bytes(buffer[start:stop])
        assert self._file is not None
        found = bytearray(max(0, stop - start))
        if read_at(self._file.fileno(), memoryview(found), start) < len(found):
            raise EOFError("a nameless file is shorter than what was written to it")
        return bytes(found)

    def write_to(self, place: Place, name: str) -> ObjectDigest:
        """Write it as an object, whole."""
        if self._memory is not None:
            place.write(name, self._memory.getvalue())  # shared, not copied
        else:
            assert self._file is not None
            place.write_file(name, self._file)
        return self.written
