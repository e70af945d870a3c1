"""Whether an image can be used: its header is read first, then it is decoded once with the renderer's own decoder.

Knows one image at a time; nothing of shards or labels.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import nvidia.dali.experimental.dynamic as dali
import nvidia.dali.types as types
from nvidia import nvimgcodec

FORMATS = ("jpeg", "png", "webp")
_BATCH_PIXELS = 64_000_000


@dataclass(frozen=True)
class Accepted:
    """An image that decodes: size in pixels of the upright image."""

    height: int
    width: int


@dataclass(frozen=True)
class Rejected:
    """An image that cannot be used, and why."""

    reason: str


Verdict = Accepted | Rejected


def examine(images: Sequence[npt.NDArray[np.uint8]], max_pixels: int) -> list[Verdict]:
    """Judge images, each uint8 [bytes].

    Args:
        images: encoded, of any format.
        max_pixels: an image whose header claims more is not decoded.
    """
    with _captured_stderr():
        headers = [_read_header(image, max_pixels) for image in images]
    verdicts: list[Verdict | None] = [verdict for verdict, _ in headers]
    pixels = [claimed for _, claimed in headers]
    good = [place for place, verdict in enumerate(verdicts) if verdict is None]
    for places in _batches(good, pixels):
        for place, verdict in zip(places, _decode([images[place] for place in places]), strict=True):
            verdicts[place] = verdict
    return [verdict for verdict in verdicts if verdict is not None]


def _read_header(image: npt.NDArray[np.uint8], max_pixels: int) -> tuple[Rejected | None, int]:
    """A reason to reject an image undecoded, and how many pixels it claims."""
    if not len(image):
        return Rejected("the file is empty"), 0
    try:
        header = nvimgcodec.CodeStream(image.tobytes())
        codec, height, width = header.codec_name, int(header.height), int(header.width)
    except RuntimeError:
        return Rejected("not an image that can be read"), 0
    if codec not in FORMATS:
        return Rejected(f"format {codec}; only {', '.join(FORMATS)} are taken"), 0
    if not 0 < height * width <= max_pixels:
        return Rejected(f"its header claims {width} × {height} pixels; data.max_pixels is {max_pixels}"), 0
    return None, height * width


def _batches(places: list[int], pixels: list[int]) -> Iterator[list[int]]:
    """Places in runs whose decoded images fit into memory together."""
    batch: list[int] = []
    total = 0
    for place in places:
        if batch and total + pixels[place] > _BATCH_PIXELS:
            yield batch
            batch, total = [], 0
        batch.append(place)
        total += pixels[place]
    if batch:
        yield batch


def _decode(images: list[npt.NDArray[np.uint8]]) -> list[Verdict]:
    """Decode together; where that fails, each alone, to find out which."""
    try:
        with _captured_stderr():
            return [Accepted(int(height), int(width)) for height, width, _ in _shapes(images)]
    except RuntimeError:
        return [_decode_one(image) for image in images]


def _decode_one(image: npt.NDArray[np.uint8]) -> Verdict:
    try:
        with _captured_stderr() as said:
            ((height, width, _),) = _shapes([image])
            return Accepted(int(height), int(width))
    except RuntimeError as error:
        return Rejected(f"does not decode: {_reason(said) or error.__cause__ or error}")


def _shapes(images: list[npt.NDArray[np.uint8]]) -> list[tuple[int, ...]]:
    # The same operator and arguments as in `render`.
    decoded = dali.decoders.image(
        dali.batch([dali.tensor(image) for image in images]),
        device="cpu",
        output_type=types.RGB,
        hw_decoder_load=0.0,
        jpeg_fancy_upsampling=True,
    )
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
