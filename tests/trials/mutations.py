"""Images with something changed: bits, runs, fields, segments, two files spliced; each by its number alone.

Containers are put in order again after half of the changes, so that these get past checksums and lengths.
"""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from .images import real

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Parts = list[tuple[bytes, bytes]]


def mutation(seed: int, number: int) -> tuple[str, bytes]:
    """Name and bytes of a mutated image."""
    draw = random.Random(f"{seed}/{number}")
    names = [
        name for name in real() if not name.startswith(("gif", "bmp", "tiff", "ppm", "jp2")) or draw.random() < 0.3
    ]
    name = draw.choice(names)
    data = real()[name]
    changes = draw.choices([1, 2, 5], [6, 3, 1])[0]
    said = []
    for _ in range(changes):
        change = draw.choice(_CHANGES)
        data = change(draw, data)
        said.append(change.__name__.strip("_"))
    return f"{name}: {', '.join(said)}", data


def _bits(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 4, 32])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _run(draw: random.Random, data: bytes) -> bytes:
    start, length = draw.randrange(len(data) + 1), draw.choice([1, 8, 64, 512])
    filled = draw.choice([bytes(length), b"\xff" * length, draw.randbytes(length)])
    return data[:start] + filled + data[start + length :]


def _field(draw: random.Random, data: bytes) -> bytes:
    """A number near the front becomes one at which counts and sizes overflow."""
    changed = bytearray(data)
    place, kind = draw.randrange(min(len(data), 600) + 1), draw.choice(["B", ">H", "<H", ">I", "<I"])
    size = struct.calcsize(kind)
    changed[place : place + size] = struct.pack(kind, draw.choice(_EDGES) % 256**size)
    return bytes(changed)


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _taken_out(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data) + 1)
    return data[:start] + data[start + draw.choice([1, 2, 16, 300]) :]


def _doubled(draw: random.Random, data: bytes) -> bytes:
    start = draw.randrange(len(data) + 1)
    stop = start + draw.choice([1, 16, 300, 5000])
    return data[:stop] + data[start:stop] * draw.choice([1, 2, 50]) + data[stop:]


def _spliced(draw: random.Random, data: bytes) -> bytes:
    other = draw.choice(list(real().values()))
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other)) :]


def _extended(draw: random.Random, data: bytes) -> bytes:
    return data + draw.choice([bytes(5000), draw.randbytes(700), draw.choice(list(real().values()))])


def _parts(draw: random.Random, data: bytes) -> bytes:
    """Segments or chunks changed, left out, doubled or moved, with lengths and checksums that are right again."""
    parts, join = _taken_apart(data)
    for _ in range(draw.choice([1, 2, 4])):
        if not parts:
            break
        place = draw.randrange(len(parts))
        kind, body = parts[place]
        match draw.randrange(6):
            case 0:
                del parts[place]
            case 1:
                parts[place:place] = [parts[place]] * draw.choice([1, 3, 200])
            case 2:
                parts.insert(draw.randrange(len(parts)), parts.pop(place))
            case 3:
                parts[place] = kind, _bits(draw, body)
            case 4:
                parts[place] = kind, _field(draw, body)
            case 5:
                parts[place] = kind, draw.choice([_cut, _doubled, _run])(draw, body)
    return join(parts)


def _inside(draw: random.Random, data: bytes) -> bytes:
    """A PNG's lines are changed under its compression; in other formats, the same as `_bits`."""
    parts, join = _taken_apart(data)
    if join is not _png:
        return _bits(draw, data)
    changed: Parts = []
    for kind, body in parts:
        try:
            lines = zlib.decompress(body) if kind == b"IDAT" else b""
        except zlib.error:
            lines = b""
        change = draw.choice([_bits, _run, _cut, _doubled])
        changed.append((kind, zlib.compress(change(draw, lines)) if lines else body))
    return join(changed)


_CHANGES: list[Callable[[random.Random, bytes], bytes]] = [
    _bits, _run, _field, _field, _cut, _taken_out, _doubled, _spliced, _extended, _parts, _parts, _parts, _inside,
]  # fmt: skip


def _taken_apart(data: bytes) -> tuple[Parts, Callable[[Parts], bytes]]:
    """Parts of a container as (kind, body), and what puts them together again."""
    if data.startswith(b"\x89PNG"):
        return _chunks(data, 8, ">I4s", trailer=4), _png
    if data.startswith(b"RIFF"):
        return [(kind, body) for kind, body in _chunks(data, 12, "<4sI", trailer=0)], _webp
    if data.startswith(b"\xff\xd8"):
        return _segments(data), _jpeg
    return [], lambda _: data


def _chunks(data: bytes, place: int, layout: str, trailer: int) -> Parts:
    found: Parts = []
    while place + 8 <= len(data):
        one, other = struct.unpack_from(layout, data, place)
        kind, size = (one, other) if isinstance(one, bytes) else (other, one)
        found.append((kind, data[place + 8 : place + 8 + size]))
        place += 8 + size + trailer + (size % 2 if not trailer else 0)
    return found


def _png(parts: Parts) -> bytes:
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _webp(parts: Parts) -> bytes:
    packed = b"".join(kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in parts)
    return b"RIFF" + struct.pack("<I", len(packed) + 4) + b"WEBP" + packed


def _segments(data: bytes) -> Parts:
    """A JPEG's segments by marker; a scan's body holds its header and the coded data after it."""
    found: Parts = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1 : place + 2]
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        stop = place + 2 + size
        if marker == b"\xda":
            following = data.find(b"\xff", stop)
            while following != -1 and (data[following + 1 : following + 2] or b"\0")[0] in (0, *range(0xD0, 0xD8)):
                following = data.find(b"\xff", following + 1)
            stop = following if following != -1 else len(data)
        found.append((marker, data[place + 4 : stop]))
        place = stop
    return found


def _jpeg(parts: Parts) -> bytes:
    packed = []
    for marker, body in parts:
        size = int.from_bytes(body[:1], "big") * 2 + 6 if marker == b"\xda" and body else len(body) + 2
        packed.append(b"\xff" + marker + struct.pack(">H", size % 65536) + body)
    return b"\xff\xd8" + b"".join(packed) + b"\xff\xd9"


def from_corpus(folder: Path, number: int) -> tuple[str, bytes]:
    """A file of a folder of folders of damaged ones, or a mutation of one."""
    files = sorted(folder.glob("*/*"))
    path = files[number % len(files)]
    data = path.read_bytes()
    if number < len(files):
        return path.name, data
    draw = random.Random(number)
    return f"{path.name}: changed", draw.choice([_bits, _run, _field, _parts, _doubled, _taken_out])(draw, data)
