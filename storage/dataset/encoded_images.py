"""Encoded images by slot: all of a data shard in memory, or each fetched from its tar when it is wanted.

Both are sequences of the same bytes, checked by the same digests; which one it is depends on what fits into an
allowance. Knows nothing of what is in the bytes. Tars are never mapped: a file that is cut short under a mapping kills
the process.
"""

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import IO, overload

import numpy as np
import numpy.typing as npt
import xxhash

from stillroom.storage.errors import DamagedObjectError
from stillroom.storage.objects.base import Place
from stillroom.storage.spill.temp_files import nameless_file, naming_its_folder, read_at, write_at
from stillroom.storage.xxh3 import xxh3_of_parts

from .index import ShardIndex

Image = npt.NDArray[np.uint8]
ENCODED_MB = 4096
"""Room for the 24 data shards of ImageNet, 115 MB each, that a student's epoch holds and reads ahead; and to spare."""


class Allowance:
    """Bytes of encoded images that may be in memory at once.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: dict[int, int] = {}
        self._numbers = itertools.count()
        self._lock = Lock()

    @property
    def held(self) -> int:
        """Bytes that are in memory now, or on their way there."""
        return sum(list(self._held.values()))

    def read(self, size: int, read: Callable[[], bytes]) -> Image | None:
        """Read some bytes if they fit; they count until nobody refers to any of them.

        Args:
            size: how many they will be.
            read: gets them.

        Returns:
            uint8 [bytes], or None where they do not fit.
        """
        with self._lock:
            if self.held + size > self.most:
                return None
            number = next(self._numbers)
            self._held[number] = size
        # Given back without the lock, which the thread that drops the last reference may hold.
        try:
            buffer = np.frombuffer(read(), np.uint8)
        except BaseException:
            del self._held[number]
            raise
        weakref.finalize(buffer, self._held.pop, number, None).atexit = False
        return buffer


@dataclass(frozen=True)
class Checked:
    """What the images of a data shard must be.

    Attributes:
        index: of the data shard.
        tar: its URL, for messages.
        shard: its number.
    """

    index: ShardIndex
    tar: str
    shard: int

    def image(self, slot: int, image: Image) -> Image:
        """An image that is the one that was ingested.

        Raises:
            DamagedObjectError: it is another.
        """
        if xxhash.xxh3_64_intdigest(image.data) != int(self.index.digest[slot]):
            raise DamagedObjectError(
                f"sample {self.index.key[slot]!r} in {self.tar} (data shard {self.shard}, slot {slot}) "
                "is not what was ingested; restore the file, or ingest again into a new folder"
            )
        return image


def whole(buffer: Image, checked: Checked) -> list[Image]:
    """The images of a tar that is in memory, uint8 [bytes], as views of it; all are checked now.

    Raises:
        DamagedObjectError: one is not what was ingested.
    """
    index = checked.index
    places = zip(index.offset.tolist(), index.size.tolist(), strict=True)
    images = [buffer[start : start + size] for start, size in places]
    for slot in np.flatnonzero(xxh3_of_parts(buffer, index.offset, index.size) != index.digest).tolist():
        checked.image(slot, images[slot])
    return images


class Picked(Sequence[Image]):
    """Images of one or more data shards in any order; none is fetched before it is asked for by its own place.

    Args:
        sources: the data shards' images.
        source: int64 [n], place in `sources`.
        slot: int64 [n].
    """

    def __init__(
        self, sources: Sequence[Sequence[Image]], source: npt.NDArray[np.int64], slot: npt.NDArray[np.int64]
    ) -> None:
        self._sources, self._source, self._slot = sources, source, slot

    def __len__(self) -> int:
        return len(self._slot)

    @overload
    def __getitem__(self, place: int) -> Image: ...
    @overload
    def __getitem__(self, place: slice) -> "Picked": ...
    def __getitem__(self, place: int | slice) -> "Image | Picked":
        if isinstance(place, slice):
            return Picked(self._sources, self._source[place], self._slot[place])
        return self._sources[int(self._source[place])][int(self._slot[place])]

    def __iter__(self) -> Iterator[Image]:
        # As plain numbers at once: a number of numpy's by each place of its own takes five times as long.
        for source, slot in zip(self._source.tolist(), self._slot.tolist(), strict=True):
            yield self._sources[source][slot]


def picked(images: Sequence[Image], slots: npt.NDArray[np.int64]) -> Picked:
    """Some images of one data shard: those of `slots`, int64 [n]."""
    return Picked([images], np.zeros(len(slots), np.int64), slots)


class Fetched(Sequence[Image]):
    """The images of a tar, each read and checked when it is asked for: uint8 [bytes].

    The file is closed with the last reference to the sequence.

    Args:
        file: an open file that holds the tar, or a part of it.
        start: place in the tar of the file's first byte.
        checked: what the images must be.
    """

    def __init__(self, file: IO[bytes], start: int, checked: Checked) -> None:
        self._file, self._start, self._checked = file.fileno(), start, checked
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return len(self._checked.index)

    @overload
    def __getitem__(self, slot: int) -> Image: ...
    @overload
    def __getitem__(self, slot: slice) -> Picked: ...
    def __getitem__(self, slot: int | slice) -> Image | Picked:
        if isinstance(slot, slice):
            return picked(self, np.arange(len(self))[slot])
        slot = range(len(self))[slot]
        index = self._checked.index
        return self._checked.image(slot, self._read(int(index.offset[slot]) - self._start, int(index.size[slot])))

    def _read(self, start: int, size: int) -> Image:
        """Fewer bytes where the file ends before; their digest is then another."""
        image = np.empty(size, np.uint8)
        return image[: read_at(self._file, image.data, start)]


def fetched(place: Place, name: str, checked: Checked) -> Fetched:
    """The images of a tar one by one: from where it lies, or from a nameless copy in the folder for temporary files.

    Such a copy is on disk as long as it is open, and outlives no process, however that ends.

    Raises:
        MissingObjectError: there is no such tar.
    """
    if place.local(name) is not None:
        return Fetched(place.open(name), 0, checked)
    index = checked.index
    start, stop = int(index.offset.min(initial=2**62)), extent(index)
    copy = nameless_file()
    try:
        with naming_its_folder():
            filled = 0
            for piece in place.pieces(name, start, stop):
                write_at(copy.fileno(), memoryview(piece), filled)
                filled += len(piece)
    except BaseException:
        copy.close()
        raise
    return Fetched(copy, start, checked)


def extent(index: ShardIndex) -> int:
    """Bytes of a tar up to the end of its last image."""
    return int((index.offset + index.size).max(initial=0))
