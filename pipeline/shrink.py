"""Photos that are larger than any view needs, made smaller once: both teacher and student then see the smaller ones.

Decoded by the renderer's own decoder, so colours and orientation are what it would have seen. Knows nothing of shards.
"""

import io

import numpy as np
import numpy.typing as npt
import nvidia.dali.experimental.dynamic as dali
import nvidia.dali.types as types
from PIL import Image

from .verdict import Accepted

_QUALITY = 95


def shrunk(
    image: npt.NDArray[np.uint8], verdict: Accepted, max_side: int
) -> tuple[npt.NDArray[np.uint8], Accepted] | None:
    """An image whose longer side is `max_side`; None where it is no longer than that already.

    By Lanczos' filter, as a JPEG of quality 95 with chroma at half the resolution.

    Args:
        image: uint8 [bytes], encoded; one that was accepted.
        verdict: its size in pixels.
        max_side: in pixels.
    """
    longer = max(verdict.height, verdict.width)
    if longer <= max_side:
        return None
    height, width = (max(1, round(side * max_side / longer)) for side in (verdict.height, verdict.width))
    smaller = Image.fromarray(_decoded(image)).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    sink = io.BytesIO()
    smaller.save(sink, "JPEG", quality=_QUALITY, subsampling="4:2:0")
    return np.frombuffer(sink.getvalue(), np.uint8), Accepted(height, width)


def _decoded(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pixels, upright: uint8 [height, width, 3]."""
    # The same operator and arguments as in `render`.
    decoded = dali.decoders.image(
        dali.batch([dali.tensor(image)]),
        device="cpu",
        output_type=types.RGB,
        hw_decoder_load=0.0,
        jpeg_fancy_upsampling=True,
    )
    return np.asarray(decoded.evaluate().tensors[0])
