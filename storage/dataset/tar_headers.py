"""The headers of a tar: what each member is called, what it is, where its bytes lie.

Python's own reader trusts them: a negative size makes it read for ever, a long extended header takes it minutes, and
some of its versions do worse. Here every number is checked against the file. Nothing is ever extracted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stillroom.storage.errors import DataError
from stillroom.storage.spill.byte_spool import Slices

BLOCK = 512
_END = bytes(BLOCK)
_PLAIN = (b"0", b"\0", b"7")
_WITHOUT_DATA = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
}
_FOLDER, _SPARSE, _LONG_NAME, _LONG_LINK, _GLOBAL = b"5", b"S", b"L", b"K", b"g"
_EXTENDED = (b"x", b"X")
_SPARSE_KEYS = b"GNU.sparse."
_CHECKSUM = slice(148, 156)
_EXTENSION_LIMIT = 2**20
"""Bytes of an extended header or a long name at most; a path has 4096."""
_TAIL = 2**20
"""Bytes of what follows the end that are looked at in one go."""


@dataclass(frozen=True)
class Entry:
    """A member.

    Attributes:
        name: with undecodable bytes as surrogates.
        odd: what it is, where it is no plain file, such as "a symbolic link"; "a folder" for a folder.
        offset, size: where its bytes lie.
    """

    name: str
    odd: str
    offset: int
    size: int


FOLDER = "a folder"


def entries(data: Slices, tar: str) -> Iterator[Entry]:
    """The members of a tar, in order.

    Args:
        data: all of it.
        tar: its name, for messages.

    Raises:
        DataError: it is damaged, cut short, or claims what cannot be; names the byte.
    """
    place, long_name, extended = 0, "", dict[bytes, bytes]()
    while True:
        header = data[place : place + BLOCK]
        if len(header) < BLOCK:
            raise DataError(f"{tar} is cut short: no end-of-archive block at byte {place}")
        if header == _END:
            if any(data[start : start + _TAIL].strip(b"\0") for start in range(place, len(data), _TAIL)):
                raise DataError(
                    f"{tar} goes on after its end at byte {place}, and what follows would be lost; pack it anew"
                )
            return
        _check_sum(header, place, tar)
        kind = header[156:157]
        start = place + BLOCK
        size = _number(header[124:136], place, tar)
        if kind in (*_EXTENDED, _LONG_NAME, _LONG_LINK, _GLOBAL):
            _refuse_beyond(data, start, size, place, tar)
            if size > _EXTENSION_LIMIT:
                raise DataError(f"{tar} is damaged: the header at byte {place} is {size} bytes long")
            body = data[start : start + size]
            if kind == _LONG_NAME:
                long_name = _text(body)
            elif kind in _EXTENDED:
                extended = _records(body, place, tar)
            place = _after(start, size)
            continue
        if b"size" in extended:
            size = _decimal(extended[b"size"], place, tar)
        name = _name(header)
        path = extended.get(_SPARSE_KEYS + b"name", extended.get(b"path"))
        if path is not None:
            # Not cut at a NUL: a name that holds one is refused by whoever uses it.
            name = path.decode("utf-8", "surrogateescape")
        elif long_name:
            name = long_name
        odd = _odd(kind, name, extended)
        if kind == _SPARSE:
            start = _after_sparse_map(data, header, start, tar)
        if kind in _WITHOUT_DATA or odd == FOLDER:
            size = 0
        _refuse_beyond(data, start, size, place, tar)
        yield Entry(name, odd, start, size)
        place, long_name, extended = _after(start, size), "", {}


def _odd(kind: bytes, name: str, extended: dict[bytes, bytes]) -> str:
    if kind == _FOLDER or (kind in _PLAIN and name.endswith("/")):
        return FOLDER
    if kind == _SPARSE or any(key.startswith(_SPARSE_KEYS) for key in extended):
        return "a sparse file"
    if kind in _PLAIN:
        return ""
    return _WITHOUT_DATA.get(kind) or f"of type {kind.decode('ascii', 'backslashreplace')!r}"


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _check_sum(header: bytes, place: int, tar: str) -> None:
    """Old writers summed signed bytes."""
    stated = _number(header[_CHECKSUM], place, tar)
    without = header[: _CHECKSUM.start] + b" " * 8 + header[_CHECKSUM.stop :]
    unsigned = sum(without)
    if stated != unsigned and stated != unsigned - 256 * sum(byte > 127 for byte in without):
        what = "damaged" if place else "not a readable tar"
        raise DataError(f"{tar} is {what}: the header at byte {place} does not match its checksum")


def _number(field: bytes, place: int, tar: str) -> int:
    """A number in octal, or in base 256 where the first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise DataError(f"{tar} is damaged: the header at byte {place} has a negative number")
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    try:
        if digits and not digits.isdigit():
            raise ValueError
        return int(digits or b"0", 8)
    except ValueError:
        what = "damaged" if place else "not a readable tar"
        raise DataError(f"{tar} is {what}: the header at byte {place} has {digits!r} for a number") from None


def _decimal(text: bytes, place: int, tar: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise DataError(f"{tar} is damaged: the header before byte {place} has {text[:30]!r} for a size")
    return int(text)


def _records(body: bytes, place: int, tar: str) -> dict[bytes, bytes]:
    """An extended header: lines "length key=value", each as long as it says."""
    found: dict[bytes, bytes] = {}
    start = 0
    while start < len(body) and body[start]:
        digits = body[start : start + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        line = body[start : start + length]
        key, equals, value = line[len(digits) + 1 : -1].partition(b"=")
        if not equals or len(line) != length or line[-1:] != b"\n":
            raise DataError(f"{tar} is damaged: the extended header at byte {place} does not add up")
        found[key] = value
        start += length
    return found


def _after_sparse_map(data: Slices, header: bytes, start: int, tar: str) -> int:
    """Where the data of an old sparse file start: after its further blocks of holes."""
    more = header[482]
    while more:
        block = data[start : start + BLOCK]
        if len(block) < BLOCK:
            raise DataError(f"{tar} is cut short: a sparse file's blocks end at byte {len(data)}")
        more, start = block[504], start + BLOCK
    return start


def _refuse_beyond(data: Slices, start: int, size: int, place: int, tar: str) -> None:
    if start + size > len(data):
        raise DataError(
            f"{tar} is cut short or damaged: the member at byte {place} claims {size} bytes, and "
            f"{len(data) - start} are left"
        )


def _after(start: int, size: int) -> int:
    return start + -(-size // BLOCK) * BLOCK
