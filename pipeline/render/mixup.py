"""Mixing rendered views: x = λ·a + (1 − λ)·b, in float32, after uint8 rendering and before normalisation.

Teacher and student both come here, so that they see the same floats: product, product, sum and quotient are rounded
one by one, as a fused multiply-add would differ between processors.
"""

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.device.buffer_pool import Buffers
from stillroom.pipeline.device.streams import to_device
from stillroom.storage.jit import compiled

_BUFFERS = Buffers()


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
    rows = np.arange(len(pixels)) if own is None else own
    if pixels.device.type == "cpu" and len(rows):
        return _in_one_pass(pixels, rows, other, share)
    return _operation_by_operation(pixels, rows, other, share)


def _operation_by_operation(
    pixels: torch.Tensor,
    own: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64] | None,
    share: npt.NDArray[np.float32] | None,
) -> torch.Tensor:
    """Anywhere: what `to_images` says, as torch says it."""
    device = pixels.device
    # Not a plain number: by one of those, CUDA multiplies with its reciprocal, which is not what a division rounds to.
    white = torch.full((), 255.0, device=device)
    mixed = pixels[to_device(torch.from_numpy(own), device)].to(torch.float32)
    if other is not None:
        assert share is not None
        weight = to_device(torch.from_numpy(share), device).view(-1, 1, 1, 1)
        second = pixels[to_device(torch.from_numpy(other), device)].to(torch.float32)
        mixed.mul_(weight).add_(second.mul_(1.0 - weight))
    return torch.div(mixed, white, out=mixed).permute(0, 3, 1, 2)


def _in_one_pass(
    pixels: torch.Tensor,
    own: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64] | None,
    share: npt.NDArray[np.float32] | None,
) -> torch.Tensor:
    """On a CPU: the same bits, with each number read and written once, on memory that is used again."""
    views = pixels.contiguous().view(len(pixels), -1).numpy()
    images = _BUFFERS.take((len(own), *pixels.shape[1:]))
    if other is None:
        _scale(views, own, images.reshape(len(own), -1))
    else:
        assert share is not None
        _mix(views, own, other, share, images.reshape(len(own), -1))
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@compiled
def _scale(views: npt.NDArray[np.uint8], own: npt.NDArray[np.int64], images: npt.NDArray[np.float32]) -> None:
    """From uint8 [m, number] by rows [n] to float32 [n, number] in [0, 1]."""
    full = np.float32(255.0)
    for i in range(len(own)):
        view, image = views[own[i]], images[i]
        for j in range(len(view)):
            image[j] = np.float32(view[j]) / full


@compiled
def _mix(
    views: npt.NDArray[np.uint8],
    own: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64],
    share: npt.NDArray[np.float32],
    images: npt.NDArray[np.float32],
) -> None:
    """The same of two rows each, by the first one's share [n]."""
    full = np.float32(255.0)
    for i in range(len(own)):
        first, second, image = views[own[i]], views[other[i]], images[i]
        weight = share[i]
        rest = np.float32(1.0) - weight
        for j in range(len(first)):
            image[j] = (np.float32(first[j]) * weight + np.float32(second[j]) * rest) / full
