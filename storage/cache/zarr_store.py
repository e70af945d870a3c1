"""Two Zarr stores over a place: a reader that checks every object against the ledger, and a writer that remembers.

Zarr alone returns fill values for missing chunks and wrong numbers for damaged ones. The reader compares each object
with the ledger the first time that it is touched, and raises. Knows nothing of arrays.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Protocol

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger.ledger import ObjectDigest
from stillroom.storage.objects.base import PIECE, Place
from stillroom.storage.spill.byte_spool import Slices, Spool

METADATA = "zarr.json"


class Expect(Protocol):
    """What the ledger says of an object."""

    def __call__(self, name: str, *, afresh: bool = False) -> Collection[ObjectDigest]:
        """The forms that are allowed.

        Args:
            name: the object's.
            afresh: read the records again; a task may have been done again since.

        Raises:
            MissingObjectError: the ledger lists none.
        """


class _PlaceStore(Store):
    """What both stores share: Zarr's asynchronous face over plain calls."""

    def __init__(self, place: Place, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self.place = place

    def __eq__(self, value: object) -> bool:
        return type(value) is type(self) and isinstance(value, _PlaceStore) and value.place.url == self.place.url

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return str(self.place)

    def _get(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        raise NotImplementedError

    def _names(self, folder: str) -> Iterable[str]:
        return self.place.list(folder)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        data = await asyncio.to_thread(self._get, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self.place.size, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    @property
    def supports_writes(self) -> bool:
        return not self.read_only

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return True

    async def list(self) -> AsyncIterator[str]:
        for name in self._names(""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for name in self._names(""):
            if name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in sorted({name.removeprefix(folder).partition("/")[0] for name in self._names(folder.rstrip("/"))}):
            yield name


class CheckedStore(_PlaceStore):
    """A read-only store that returns nothing which the ledger does not vouch for.

    Args:
        place: where the objects are.
        expect: what the ledger says of each.

    Raises:
        MissingObjectError: from any read of a chunk that is not there, or that no finished task wrote.
        DamagedObjectError: from the first read of an object whose size or digest is not the recorded one.
    """

    def __init__(self, place: Place, expect: Expect) -> None:
        super().__init__(place, read_only=True)
        self.expect = expect
        self._sizes: dict[str, int] = {}

    def with_read_only(self, read_only: bool = False) -> "CheckedStore":
        assert read_only
        return self

    def read(self, key: str) -> bytes:
        """An object whole, outside Zarr.

        Raises:
            MissingObjectError, DamagedObjectError: it is not what the ledger vouches for.
        """
        data = self._get(key, None)
        if data is None:
            raise MissingObjectError(f"{self.place}/{key} is missing; `stillroom verify` finds all that is gone")
        return data

    def _get(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        if byte_range is not None and (key in self._sizes or self._vouched_in_pieces(key)):
            start, stop = _bounds(byte_range, self._sizes[key])
            return self.place.read_range(key, start, stop)
        try:
            data = self.place.read(key)
        except MissingObjectError as error:
            try:
                self.expect(key)
            except MissingObjectError:
                if _is_metadata(key):
                    return None  # Zarr asks for metadata to find out whether there is a node
                raise
            raise MissingObjectError(
                f"{self.place}/{key} is missing, though the ledger lists it; `stillroom verify` finds all that is gone"
            ) from error
        if not self._vouched(key, data):
            # It may have been done again since its record was read, or just now.
            data = self.place.read(key)
            self._check(key, data)
        if byte_range is None:
            return data
        start, stop = _bounds(byte_range, len(data))
        return data[start:stop]

    def _vouched_in_pieces(self, key: str) -> bool:
        """Look at an object that is too large to be in memory for a part of it; False for others, and what is wrong."""
        if _is_metadata(key):
            return False
        allowed = self.expect(key)
        largest = max(item.size for item in allowed)
        if largest <= PIECE:
            return False
        try:
            found = ObjectDigest.by_reading(self.place, key, largest)
        except MissingObjectError:
            return False
        if found in allowed:
            self._sizes[key] = found.size
        return found in allowed

    def _vouched(self, key: str, data: bytes) -> bool:
        found = ObjectDigest.of(data)
        if found in self.expect(key):
            self._sizes[key] = found.size
            return True
        return False

    def _check(self, key: str, data: bytes) -> None:
        """The same with the records as they are now."""
        allowed = self.expect(key, afresh=True)
        if not self._vouched(key, data):
            found = ObjectDigest.of(data)
            expected = " or ".join(f"{item.size} bytes, xxh3 {item.digest}" for item in allowed)
            raise DamagedObjectError(
                f"{self.place}/{key} is damaged: the ledger says {expected}; "
                f"found {found.size} bytes, xxh3 {found.digest}. `stillroom verify --repair` has it made again"
            )


class RecordingStore(_PlaceStore):
    """A store for one task's writes, which keeps size and digest of each object for the task's record.

    What is written is held back until `release`: a task that fails or is stopped before then has written nothing,
    and none of Zarr's threads writes on after it. It sees only metadata and what it wrote itself: what an earlier,
    interrupted attempt left is replaced without being read.

    Args:
        place: where the objects go.
        creates: folder whose metadata this task makes anew, so does not see either; "" for all of the place.
    """

    def __init__(self, place: Place, *, creates: str | None = None) -> None:
        super().__init__(place, read_only=False)
        self.creates = creates
        self._held: dict[str, Spool] = {}
        self.written: dict[str, ObjectDigest] = {}

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._get, key, None) is not None

    async def set(self, key: str, value: Buffer) -> None:
        # Zarr makes up groups that it misses above what it creates; what is missing there is another task's work.
        if self._sees(key) and key not in self.written and key.endswith(METADATA):
            raise MissingObjectError(
                f"{self.place}/{key} is missing; `stillroom verify --repair` has the task that writes it done again"
            )
        self.hold(key, Spool.of(value.to_bytes()))

    def hold(self, name: str, data: Spool) -> None:
        """Take an object that was not written by Zarr."""
        self._held[name] = data
        self.written[name] = data.written

    def release(self) -> None:
        """Write what was held since the last time, in the order in which it came."""
        while self._held:
            key = next(iter(self._held))
            self._held[key].write_to(self.place, key)
            del self._held[key]

    def _get(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        data: Slices
        if key in self._held:
            data = self._held[key]
        elif self._sees(key) and self.place.size(key) is not None:
            data = self.place.read(key)
        else:
            return None
        start, stop = (0, len(data)) if byte_range is None else _bounds(byte_range, len(data))
        return data[start:stop]

    def _names(self, folder: str) -> Iterable[str]:
        return [name for name in self.written if name.startswith(folder)]

    def _sees(self, key: str) -> bool:
        old = self.creates is None or not f"{key}/".startswith(f"{self.creates}/" if self.creates else "")
        return key in self.written or (old and key.endswith(METADATA))


def _is_metadata(key: str) -> bool:
    """Whether Zarr looks for this to find out what is there, in either version of its format."""
    return key.rpartition("/")[2] in (METADATA, ".zgroup", ".zarray", ".zattrs", ".zmetadata")


def _bounds(byte_range: ByteRequest, size: int) -> tuple[int, int]:
    match byte_range:
        case RangeByteRequest(start, end):
            return start, min(end, size)
        case OffsetByteRequest(offset):
            return offset, size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size
