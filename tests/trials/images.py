"""Images that mean harm: real ones of every kind, files whose headers lie, and mutations of both.

Every one is a pure function of its name or number, so that a finding can be repeated.
"""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image


def photo(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """Smooth, as photos are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@cache
def real() -> dict[str, bytes]:
    """Whole images of every kind that is taken, and of some that are not."""
    image = photo()
    frames = [photo(seed=number) for number in range(1, 4)]
    wide = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    return {
        "jpeg": encoded(image, "JPEG", quality=90),
        "progressive.jpeg": encoded(image, "JPEG", quality=90, progressive=True),
        "restarts.jpeg": encoded(image, "JPEG", quality=90, restart_marker_rows=1),
        "444.jpeg": encoded(image, "JPEG", quality=95, subsampling=0),
        "grey.jpeg": encoded(image.convert("L"), "JPEG"),
        "cmyk.jpeg": encoded(image.convert("CMYK"), "JPEG"),
        "exif.jpeg": encoded(image, "JPEG", exif=_oriented(6), icc_profile=bytes(300)),
        "mpo.jpeg": encoded(image, "MPO", save_all=True, append_images=frames),
        "png": encoded(image, "PNG"),
        "alpha.png": encoded(image.convert("RGBA"), "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG", transparency=3),
        "sixteen.png": encoded(wide, "PNG"),
        "bits.png": encoded(image.convert("1"), "PNG"),
        "exif.png": encoded(image, "PNG", exif=_oriented(8)),
        "animated.png": encoded(image, "PNG", save_all=True, append_images=frames),
        "webp": encoded(image, "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "alpha.webp": encoded(image.convert("RGBA"), "WEBP"),
        "exif.webp": encoded(image, "WEBP", exif=_oriented(3)),
        "animated.webp": encoded(image, "WEBP", save_all=True, append_images=frames),
        "gif": encoded(image, "GIF"),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF", compression="tiff_lzw"),
        "ppm": encoded(image, "PPM"),
        "jp2": encoded(image, "JPEG2000"),
    }


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk, its CRC right."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"", *more: bytes, lace: int = 0
) -> bytes:
    """A PNG whose header says what it is told to."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace))
    body = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + chunk(b"IEND", b"")


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame_header(marker: int, width: int, height: int, precision: int = 8, components: int = 3) -> bytes:
    """A JPEG start of frame."""
    listed = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    return segment(marker, struct.pack(">BHHB", precision, height, width, components) + listed)


def many_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that refines one coefficient of nothing again and again: a few bytes for each scan."""
    table = segment(0xDB, b"\0" + b"\1" * 64)
    # One code for AC: 0xE0, a run of 2¹⁴ and more empty blocks, so that a scan over all of them takes a few bytes.
    codes = segment(0xC4, b"\x00" + bytes([0, 1, *[0] * 14]) + b"\x00") + segment(
        0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\xe0"
    )
    blocks = ((width + 7) // 8) * ((height + 7) // 8)
    runs = -(-blocks // 32767)
    bits = "".join("0" + "1" * 14 for _ in range(runs))
    bits += "1" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    first = segment(0xDA, b"\1\1\0\0\0\0")
    scan = segment(0xDA, b"\1\1\0\1\x3f\0") + body
    return (
        b"\xff\xd8"
        + table
        + frame_header(0xC2, width, height, components=1)
        + codes
        + first
        + bytes((blocks * 2 + 7) // 8)
        + scan * scans
        + b"\xff\xd9"
    )


def resized(name: str, width: int, height: int) -> bytes:
    """A real JPEG whose frame header claims another size."""
    return real()[name].replace(struct.pack(">HH", 64, 96), struct.pack(">HH", height, width), 1)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP container."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """The header chunk of an extended WebP."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def webp_frame(width: int, height: int) -> bytes:
    """What is in the VP8 chunk of a real, smooth image."""
    return encoded(Image.new("RGB", (width, height), (90, 120, 30)), "WEBP")[20:]


LIARS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"this is no image at all",
    "only a magic number, jpeg": lambda: b"\xff\xd8\xff",
    "only a magic number, png": lambda: b"\x89PNG\r\n\x1a\n",
    "only a magic number, webp": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    "png of 25 megapixels without data": lambda: png(5000, 5000),
    "png of almost too many pixels without data": lambda: png(9999, 9999, 16, 6),
    "png of almost too many pixels, laced": lambda: png(9999, 9999, 16, 6, lace=1),
    "png that is one line": lambda: png(99_000_000, 1),
    "png that is one column": lambda: png(1, 99_000_000),
    "png of four gigapixels": lambda: png(65_535, 65_535),
    "png whose size overflows": lambda: png(2**31 - 1, 2**31 - 1),
    "png of no width": lambda: png(0, 10),
    "png of a negative width": lambda: png(2**32 - 5, 10),
    "png of 3 bits": lambda: png(16, 16, 3),
    "png of an unknown colour": lambda: png(16, 16, 8, 5),
    "png with a palette that is missing": lambda: png(16, 16, 8, 3, bytes(17 * 16)),
    "png with two headers": lambda: png(16, 16, 8, 2, bytes(49 * 16), png(9000, 9000)[8:33]),
    "png that inflates": lambda: png(64, 64, 8, 2, bytes(200_000_000)),
    "png whose text inflates": lambda: png(64, 64, 8, 2, bytes(193 * 64), chunk(b"zTXt", b"a\0\0" + _bomb())),
    "png whose profile inflates": lambda: png(64, 64, 8, 2, bytes(193 * 64), chunk(b"iCCP", b"a\0\0" + _bomb())),
    "png with a hundred thousand chunks": lambda: png(16, 16, 8, 2, bytes(49 * 16), chunk(b"tEXt", b"a\0b") * 100_000),
    "png with a chunk of 4 GiB": lambda: png(16, 16)[:33] + b"\xff\xff\xff\xfftEXtabc",
    "jpeg of four gigapixels": lambda: resized("jpeg", 65535, 65535),
    "jpeg of almost too many pixels": lambda: resized("jpeg", 9999, 9999),
    "progressive of almost too many pixels": lambda: resized("progressive.jpeg", 9999, 9999),
    "jpeg without a height": lambda: resized("jpeg", 96, 0),
    "jpeg without a width": lambda: resized("jpeg", 0, 64),
    "jpeg with two frames, the second larger": lambda: _second_frame(9000, 9000),
    "jpeg with two frames, the first larger": lambda: b"\xff\xd8" + frame_header(0xC0, 9000, 9000) + real()["jpeg"][2:],
    "arithmetic coding": lambda: _remarked(0xC9),
    "lossless": lambda: _remarked(0xC3),
    "hierarchical": lambda: _remarked(0xC5),
    "twelve bits": lambda: _precise(12),
    "two bits": lambda: _precise(2),
    "a thousand scans": lambda: many_scans(2000, 2000, 1000),
    "ten thousand scans of almost too many pixels": lambda: many_scans(9992, 9992, 10_000),
    "scans of one line": lambda: many_scans(65_500, 1500, 5000),
    "jpeg with a list after it": lambda: real()["jpeg"] + bytes(100_000),
    "two jpegs in one": lambda: real()["jpeg"] + real()["444.jpeg"],
    "jpeg of tables alone": lambda: b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + b"\xff\xd9",
    "jpeg with a segment of no length": lambda: b"\xff\xd8\xff\xe0\x00\x00" + real()["jpeg"][2:],
    "jpeg with a megabyte of fill": lambda: b"\xff\xd8" + b"\xff" * 1_000_000 + real()["jpeg"][3:],
    "orientation 9": lambda: encoded(photo(), "JPEG", exif=_oriented(9)),
    "orientation 65535": lambda: encoded(photo(), "JPEG", exif=_oriented(65535)),
    "exif that points outside": lambda: encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
    "exif that points at itself": lambda: encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + b"\0\0\x08\0\0\0"),
    "exif of 65,535 entries": lambda: encoded(photo(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(60)),
    "webp whose frame is larger than its canvas": lambda: riff(canvas(16, 16), (b"VP8 ", webp_frame(9000, 9000))),
    "webp whose frame is far larger than its canvas": lambda: riff(canvas(16, 16), (b"VP8 ", webp_frame(16383, 16383))),
    "webp whose canvas is larger than its frame": lambda: riff(canvas(9999, 9999), (b"VP8 ", webp_frame(16, 16))),
    "webp of a canvas of 2⁴⁸": lambda: riff(canvas(2**24, 2**24), (b"VP8 ", webp_frame(16, 16))),
    "webp without a frame": lambda: riff(canvas(16, 16)),
    "webp with two frames": lambda: riff((b"VP8 ", webp_frame(16, 16)), (b"VP8 ", webp_frame(9000, 9000))),
    "webp with a chunk of 4 GiB": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff" + bytes(20),
    "webp that animates nothing": lambda: riff(canvas(16, 16, 2), (b"ANIM", bytes(6))),
    "tiff that points at itself": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "tiff of 65,535 entries": lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(40),
    "bmp of a negative size": lambda: real()["bmp"][:18] + struct.pack("<ii", -(2**31), -(2**31)) + real()["bmp"][26:],
}  # fmt: skip


def _bomb() -> bytes:
    return zlib.compress(bytes(200_000_000), 9)


def _second_frame(width: int, height: int) -> bytes:
    data = real()["jpeg"]
    place = data.index(b"\xff\xda")
    return data[:place] + frame_header(0xC0, width, height) + data[place:]


def _remarked(marker: int) -> bytes:
    return real()["jpeg"].replace(b"\xff\xc0", bytes([0xFF, marker]), 1)


def _precise(bits: int) -> bytes:
    data = bytearray(real()["jpeg"])
    data[data.index(b"\xff\xc0") + 4] = bits
    return bytes(data)
