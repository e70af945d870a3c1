"""Mixing rendered views: x = λ·a + (1 − λ)·b, in float32, after uint8 rendering and before normalisation.

Teacher and student both come here, so that they see the same floats.
"""

import numpy as np
import numpy.typing as npt
import torch

from .lanes import to_device

_CPU_STEP = 8


def to_images(
    pixels: torch.Tensor,
    own: npt.NDArray[np.int64] | None = None,
    other: npt.NDArray[np.int64] | None = None,
    share: npt.NDArray[np.float32] | None = None,
) -> torch.Tensor:
    """Images as models take them.

    Args:
        pixels: uint8 [m, height, width, 3].
        own: int64 [n], row of each image's own view; default all rows in order.
        other: int64 [n], row of the view it is mixed with; None for no mixing.
        share: float32 [n], λ.

    Returns:
        float32 [n, 3, height, width] in [0, 1], in channels-last memory, on the pixels' device.
    """
    device = pixels.device
    rows = torch.arange(len(pixels)) if own is None else torch.from_numpy(own)
    # Not a plain number: by one of those, CUDA multiplies with its reciprocal, which is not what a division rounds to.
    white = torch.full((), 255.0, device=device)
    images = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.float32, device=device)
    # On a CPU a few images at a time, which stay in its caches; the same operations on each number in any case.
    step = _CPU_STEP if device.type == "cpu" else max(1, len(rows))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        mixed = pixels[to_device(rows[part], device)].to(torch.float32)
        if other is not None:
            assert share is not None
            weight = to_device(torch.from_numpy(share[part]), device).view(-1, 1, 1, 1)
            second = pixels[to_device(torch.from_numpy(other[part]), device)].to(torch.float32)
            # Separate kernels, so separate roundings: a fused multiply-add would differ between processors.
            mixed.mul_(weight).add_(second.mul_(1.0 - weight))
        torch.div(mixed, white, out=images[part])
    return images.permute(0, 3, 1, 2)
