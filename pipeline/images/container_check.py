"""What a file claims before any decoder sees it: lengths that fit, the number of scans, memory that decoding takes.

Decoders trust these: one that is told of a chunk of 4 GB takes 4 GB, or reads for ever; a JPEG of ten thousand scans
is decoded ten thousand times. Knows containers only; what is in them is a decoder's work.
"""

import struct
from dataclasses import dataclass

MOST_SCANS = 200
"""Encoders write some ten; previews inside a file and further images after it have some of their own."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class Outline:
    """What is known of a file before it is decoded.

    Attributes:
        fault: why no decoder should see it; empty where nothing speaks against it.
        pixel_bytes: memory that decoding takes for each pixel, the result's three among them.
    """

    fault: str = ""
    pixel_bytes: int = 7


def outline(data: bytes) -> Outline:
    """Read a file's outline; one of an unknown kind has no fault."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(b"RIFF"):
        return _webp(data)
    return Outline()


def _jpeg(data: bytes) -> Outline:
    # In coded data 0xFF is never followed by 0xDA, so that counting finds markers, and those of previews.
    scans = data.count(b"\xff\xda")
    if scans > MOST_SCANS:
        return Outline(f"it has {scans} scans; at most {MOST_SCANS} are taken")
    place = 2
    while place + 10 <= len(data):
        if data[place] != 0xFF or data[place + 1] in (0x00, 0xFF):
            place += 1
            continue
        marker = data[place + 1]
        if marker in _FRAMES:
            # A progressive one's coefficients, two bytes each, are held whole.
            return Outline(pixel_bytes=3 + 2 * min(4, data[place + 9]) if marker in _PROGRESSIVE else 6)
        if marker == 0xDA:
            break
        place += 2 if marker in _ALONE else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return Outline(pixel_bytes=11)


def _png(data: bytes) -> Outline:
    place = 8
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if place + 8 + size > len(data):
            return Outline(_misfit(kind, size, len(data) - place - 8))
        if kind == b"IEND":
            break
        place += 12 + size
    depth, colour = (data[24], data[25]) if len(data) > 25 else (8, 2)
    # Of 16 bits, the file's own channels and three of RGB are held before they become bytes.
    return Outline(pixel_bytes=9 + 2 * _PNG_CHANNELS.get(colour, 4) if depth == 16 else 6)


def _webp(data: bytes) -> Outline:
    stop = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    place = 12
    while place + 8 <= stop:
        kind, size = struct.unpack_from("<4sI", data, place)
        if place + 8 + size > len(data):
            return Outline(_misfit(kind, size, len(data) - place - 8))
        place += 8 + size + size % 2
    return Outline()


def _misfit(kind: bytes, size: int, left: int) -> str:
    name = kind.decode("ascii", "backslashreplace").strip()
    return f"it is cut short or damaged: its chunk {name!r} claims {size} bytes, and {left} are left"
