"""Mixing rendered views: x = λ·a + (1 − λ)·b, and b in a box, in float32, after uint8 rendering, before normalisation.

Teacher and student both come here, so that they see the same floats: product, product, sum and quotient are rounded
one by one, as a fused multiply-add would differ between processors.
"""

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.device.buffer_pool import Buffers
from stillroom.pipeline.device.streams import to_device
from stillroom.storage.jit import compiled

_BUFFERS = Buffers()


def to_images(
    pixels: torch.Tensor,
    own: npt.NDArray[np.int64] | None = None,
    other: npt.NDArray[np.int64] | None = None,
    mix: Mix | None = None,
) -> torch.Tensor:
    """Images as models take them.

    Args:
        pixels: uint8 [m, height, width, 3].
        own: int64 [n], row of each image's own view; default all rows in order.
        other: int64 [n], row of the view it is mixed with; None for no mixing.
        mix: how, of each of the n; needed where `other` is given.

    Returns:
        float32 [n, 3, height, width] in [0, 1], in channels-last memory, on the pixels' device.
    """
    rows = np.arange(len(pixels)) if own is None else own
    if pixels.device.type == "cpu" and len(rows):
        return _in_one_pass(pixels, rows, other, mix)
    return _operation_by_operation(pixels, rows, other, mix)


def _operation_by_operation(
    pixels: torch.Tensor,
    own: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64] | None,
    mix: Mix | None,
) -> torch.Tensor:
    """Anywhere: what `to_images` says, as torch says it."""
    device = pixels.device
    # Not a plain number: by one of those, CUDA multiplies with its reciprocal, which is not what a division rounds to.
    white = torch.full((), 255.0, device=device)
    mixed = pixels[to_device(torch.from_numpy(own), device)].to(torch.float32)
    if other is not None:
        assert mix is not None
        weight = to_device(torch.from_numpy(mix.weight), device).view(-1, 1, 1, 1)
        second = pixels[to_device(torch.from_numpy(other), device)].to(torch.float32)
        boxes = mix.boxes(pixels.shape[1])
        outside = second * (1.0 - weight)
        mixed.mul_(weight).add_(outside)
        if boxes is not None:
            mixed = torch.where(_inside(to_device(torch.from_numpy(boxes), device), pixels.shape[1]), second, mixed)
    return torch.div(mixed, white, out=mixed).permute(0, 3, 1, 2)


def _inside(boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Whether a pixel is in its view's box: bool [n, size, size, 1], from int64 [n, 4]."""
    line = torch.arange(size, device=boxes.device)
    top, left, bottom, right = (edge.view(-1, 1, 1, 1) for edge in boxes.unbind(dim=1))
    down, across = line.view(1, -1, 1, 1), line.view(1, 1, -1, 1)
    return (down >= top) & (down < bottom) & (across >= left) & (across < right)


def _in_one_pass(
    pixels: torch.Tensor,
    own: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64] | None,
    mix: Mix | None,
) -> torch.Tensor:
    """On a CPU: the same bits, with each number read and written once, on memory that is used again."""
    views = pixels.contiguous().view(len(pixels), -1).numpy()
    images = _BUFFERS.take((len(own), *pixels.shape[1:]))
    if other is None:
        _scale(views, own, images.reshape(len(own), -1))
    else:
        assert mix is not None
        _mix(views, own, other, mix.weight, images.reshape(len(own), -1))
        boxes = mix.boxes(pixels.shape[1])
        if boxes is not None:
            _paste(pixels.contiguous().numpy(), other, boxes, images)
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


@compiled
def _paste(
    pixels: npt.NDArray[np.uint8],
    other: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.int64],
    images: npt.NDArray[np.float32],
) -> None:
    """The partners' boxes, int64 [n, 4] in pixels, into images float32 [n, size, size, 3]."""
    full = np.float32(255.0)
    for i in range(len(other)):
        view, image = pixels[other[i]], images[i]
        for y in range(boxes[i, 0], boxes[i, 2]):
            for x in range(boxes[i, 1], boxes[i, 3]):
                for channel in range(3):
                    image[y, x, channel] = np.float32(view[y, x, channel]) / full
