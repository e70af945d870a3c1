"""Whether an image can be used: its header is read first, then it is decoded once with the renderer's own decoder.

Knows one image at a time; nothing of shards or labels.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import nvidia.dali.experimental.dynamic as dali
from nvidia import nvimgcodec

from .batching import runs
from .container_check import outline
from .decoder_options import DECODING
from .verdict import Accepted, Rejected, Verdict

FORMATS = ("jpeg", "png", "webp")
_BATCH_BYTES = 400_000_000
_PIXEL_BYTES = 8
"""Memory that decoding may take for each of the pixels that are allowed: enough for eight bits a channel."""
_LONGEST_SIDE = 65_535
"""What a JPEG can have; decoders of PNG, which can have more, take memory for each line beside the pixels."""
_NO_MEMORY = re.compile(r"bad_alloc|[Ii]nsufficient memory|[Oo]ut of memory")
"""What decoders say of it that catch it themselves."""


def examine(images: Sequence[npt.NDArray[np.uint8]], max_pixels: int) -> list[Verdict]:
    """Judge images, each uint8 [bytes].

    Args:
        images: encoded, of any format.
        max_pixels: an image whose header claims more, or that takes as much memory, is not decoded.

    Raises:
        MemoryError: decoding one took more memory than this process may have.
    """
    with _captured_stderr():
        headers = [_read_header(image, max_pixels) for image in images]
    verdicts: list[Verdict | None] = [verdict for verdict, _ in headers]
    needed = [claimed for _, claimed in headers]
    good = [place for place, verdict in enumerate(verdicts) if verdict is None]
    for places in runs(good, needed.__getitem__, _BATCH_BYTES):
        for place, verdict in zip(places, _decode([images[place] for place in places]), strict=True):
            verdicts[place] = verdict
    judged = [verdict for verdict in verdicts if verdict is not None]
    assert len(judged) == len(images), f"{len(images) - len(judged)} images were not judged"
    return judged


def _read_header(image: npt.NDArray[np.uint8], max_pixels: int) -> tuple[Rejected | None, int]:
    """A reason to reject an image undecoded, and how many bytes of memory decoding it takes."""
    if not len(image):
        return Rejected("the file is empty"), 0
    data = image.tobytes()
    outlined = outline(data)
    if outlined.fault:
        return Rejected(outlined.fault), 0
    try:
        header = nvimgcodec.CodeStream(data)
        codec, height, width = header.codec_name, int(header.height), int(header.width)
    except RuntimeError:
        return Rejected("not an image that can be read"), 0
    if codec not in FORMATS:
        return Rejected(f"format {codec}; only {', '.join(FORMATS)} are taken"), 0
    if max(height, width) > _LONGEST_SIDE:
        return Rejected(f"its header claims {width} × {height} pixels; a side has at most {_LONGEST_SIDE}"), 0
    pixels = height * width
    if not (height > 0 and width > 0 and pixels <= max_pixels):
        return Rejected(f"its header claims {width} × {height} pixels; data.max_pixels is {max_pixels}"), 0
    needed = pixels * outlined.pixel_bytes
    if needed > max_pixels * _PIXEL_BYTES:
        return Rejected(
            f"its {width} × {height} pixels take {outlined.pixel_bytes} bytes each to decode; data.max_pixels "
            f"({max_pixels}) allows {max_pixels * _PIXEL_BYTES // outlined.pixel_bytes} of these"
        ), 0
    return None, needed


def _decode(images: list[npt.NDArray[np.uint8]]) -> list[Verdict]:
    """Decode together; where that fails, each alone, to find out which."""
    try:
        with _captured_stderr():
            return [Accepted(int(height), int(width)) for height, width, _ in _shapes(images)]
    except (RuntimeError, MemoryError):
        return [_decode_one(image) for image in images]


def _decode_one(image: npt.NDArray[np.uint8]) -> Verdict:
    try:
        with _captured_stderr() as said:
            ((height, width, _),) = _shapes([image])
            return Accepted(int(height), int(width))
    except RuntimeError as error:
        reason = f"{_reason(said) or error.__cause__ or error}"
        if _NO_MEMORY.search(reason):
            raise MemoryError(reason) from error
        return Rejected(f"does not decode: {reason}")


def _shapes(images: list[npt.NDArray[np.uint8]]) -> list[tuple[int, ...]]:
    decoded = dali.decoders.image(dali.batch([dali.tensor(image) for image in images]), device="cpu", **DECODING)
    decoded.evaluate()
    return list(decoded.shape)


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """What the codecs' C code prints, as lines, instead of on the user's terminal; filled on leaving."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def _reason(lines: list[str]) -> str:
    """The last thing a codec said, without its colours and tags."""
    plain = [re.sub(r"\x1b\[[0-9;]*m|\[[A-Z]+\]|\[\w+_decoder\]|\[\w+_parser\]", "", line).strip() for line in lines]
    return next((line for line in reversed(plain) if line), "")
