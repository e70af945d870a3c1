"""Photos that are larger than any view needs, made smaller once: both teacher and student then see the smaller ones.

Decoded by the renderer's own decoder, so colours and orientation are what it would have seen. Knows nothing of shards.
"""

import functools
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import Pipeline
from PIL import Image

from .decoder_options import DECODING
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
    pipeline = _decoder()
    pipeline.feed_input("encoded", [image])
    (output,) = pipeline.run()
    return np.asarray(output.at(0))


@functools.cache
def _decoder() -> Any:
    """Decodes one image at a time.

    Not DALI's dynamic mode: its tensors and what made them refer to each other, so that their pixels stay until Python
    looks for such cycles, which it does by the number of objects and not by their size.
    """
    pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1, exec_dynamic=True)
    with pipeline:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(encoded, device="cpu", **DECODING))
    pipeline.build()
    return pipeline
