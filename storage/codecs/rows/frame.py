"""The envelope around every lossy chunk: which rows are used, how many there are, and a checksum over it all.

A frame knows nothing of what its body means. Parsing never reads past the end and never trusts a length: whatever is
wrong with the bytes comes out as `DamagedObjectError`.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stillroom.storage.errors import DamagedObjectError, ModelError

_VERSION = 1
_MAX_ROWS = 1 << 31


class Reader:
    """Reads integers and runs of bytes off a body, raising where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            DamagedObjectError: fewer are left.
        """
        if count < 0 or self._at + count > len(self._data):
            left = len(self._data) - self._at
            raise DamagedObjectError(f"a chunk of logits ends too early: {count} bytes wanted, {left} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def varint(self) -> int:
        """The next unsigned LEB128 integer, below 2**63.

        Raises:
            DamagedObjectError: it does not end, or is too long.
        """
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise DamagedObjectError("a chunk of logits holds an integer of more than 63 bits")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data) - self._at)


def varint(value: int) -> bytes:
    """`value` >= 0 as unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_mask(mask: NDArray[np.bool_]) -> bytes:
    """A boolean array [n] in a few bytes where its true entries come first, as used slots do."""
    count = int(mask.sum())
    if mask[:count].all():
        return varint(count << 1)
    packed = zlib.compress(np.packbits(mask).tobytes(), 9)
    return varint(len(packed) << 1 | 1) + packed


def unpack_mask(reader: Reader, length: int) -> NDArray[np.bool_]:
    """The mask that `pack_mask` wrote.

    Raises:
        DamagedObjectError: it does not describe `length` entries.
    """
    head = reader.varint()
    if not head & 1:
        if head >> 1 > length:
            raise DamagedObjectError(f"a chunk of logits claims {head >> 1} of {length} rows")
        return np.arange(length) < head >> 1
    packed = reader.take(head >> 1)
    size = (length + 7) // 8
    try:
        inflater = zlib.decompressobj()
        bits = inflater.decompress(packed, size)
    except zlib.error as error:
        raise DamagedObjectError(f"a chunk of logits has an unreadable row mask: {error}") from error
    if len(bits) != size:
        raise DamagedObjectError(f"a chunk's row mask has {len(bits)} bytes, {size} wanted")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=length).astype(bool)


@dataclass(frozen=True)
class Frame:
    """A chunk, taken apart.

    Attributes:
        used: bool [rows], the slots that hold a sample; the others are NaN.
        body: the codec's own bytes, about the used rows only.
    """

    used: NDArray[np.bool_]
    body: bytes


def used_rows(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which rows of [n, classes] hold logits: bool [n]; a row of NaN is an unused slot.

    Raises:
        ModelError: a row holds infinities, or NaN among numbers.
    """
    nan = np.isnan(rows)
    used: NDArray[np.bool_] = ~np.asarray(nan.all(axis=1))
    bad: NDArray[np.bool_] = used & ~np.asarray(np.isfinite(rows).all(axis=1))
    if bad.any():
        slot = int(np.flatnonzero(bad)[0])
        raise ModelError(
            f"logits of slot {slot} are not finite ({int(bad.sum())} such rows in this chunk); "
            "look at the teacher's precision, or run it in float32"
        )
    return used


def pack(kind: int, classes: int, frame: Frame) -> bytes:
    """The frame as bytes: kind, version, shape, mask, body, CRC-32."""
    head = bytes((kind, _VERSION)) + varint(len(frame.used)) + varint(classes) + pack_mask(frame.used)
    data = head + frame.body
    return data + zlib.crc32(data).to_bytes(4, "little")


def unpack(data: bytes, kind: int, rows: int, classes: int) -> Frame:
    """The frame that `pack` made.

    Args:
        data: the chunk's bytes.
        kind: the codec that reads it.
        rows: rows that the array's metadata promises.
        classes: classes that the array's metadata promises.

    Raises:
        DamagedObjectError: the checksum, or the shape, is not what it must be.
    """
    if len(data) < 8 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DamagedObjectError(f"a chunk of logits ({len(data)} bytes) fails its checksum; write its task again")
    reader = Reader(data[:-4])
    found_kind, version = reader.take(2)
    found_rows, found_classes = reader.varint(), reader.varint()
    if (found_kind, version, found_rows, found_classes) != (kind, _VERSION, rows, classes) or rows > _MAX_ROWS:
        raise DamagedObjectError(
            f"a chunk of logits is of kind {found_kind} version {version} with {found_rows} rows of {found_classes} "
            f"classes; the array needs kind {kind} version {_VERSION} with {rows} rows of {classes}"
        )
    used = unpack_mask(reader, rows)
    return Frame(used, reader.rest())
