"""Mixing rendered views: x = λ·a + (1 − λ)·b, in float32, after uint8 rendering and before normalisation.

Teacher and student both come here, so that they see the same floats.
"""

import numpy as np
import numpy.typing as npt
import torch


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
    first = pixels if own is None else pixels[torch.from_numpy(own).to(device)]
    mixed = first.to(torch.float32)
    if other is not None:
        assert share is not None
        weight = torch.from_numpy(share).to(device).view(-1, 1, 1, 1)
        # Three separate roundings: a fused multiply-add would differ between processors.
        mixed = mixed * weight + pixels[torch.from_numpy(other).to(device)].to(torch.float32) * (1.0 - weight)
    return (mixed / 255.0).permute(0, 3, 1, 2)
