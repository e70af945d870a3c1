"""Steps on any device, as torch's integer operations: the same bits as `compiled`, for a GPU.

Which view has which step is known on the host, so nothing waits for the device: of each step in turn, the views that
have the same kind are worked on together.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from stillroom.pipeline.augment.steps import Kind, Steps
from stillroom.pipeline.device.streams import to_device

from .placed import Placed

_Numbers = torch.Tensor
"""int64 [n, 7]: what the steps take."""


def paint(views: torch.Tensor, work: Placed) -> None:
    """Carry out steps in place.

    Args:
        views: uint8 [n, size, size, 3].
        work: of the same views.
    """
    filters = to_device(torch.from_numpy(work.filters), views.device)
    for k in range(work.steps.shape[1]):
        kinds = work.steps[:, k, 0]
        for kind in np.unique(kinds[kinds != Kind.NOTHING]).tolist():
            rows = np.flatnonzero(kinds == kind)
            mine = to_device(torch.from_numpy(rows), views.device)
            numbers = to_device(torch.from_numpy(_wide(work.steps[rows, k, 1:])), views.device)
            before = views[mine].to(torch.int32)
            after = _blur(before, numbers, filters) if kind == Kind.BLUR else _DONE[Kind(kind)](before, numbers)
            views[mine] = after.to(torch.uint8)


def _wide(steps: Steps) -> np.ndarray:
    return steps.astype(np.int64)


def _each(numbers: torch.Tensor) -> torch.Tensor:
    """[n] as [n, 1, 1, 1]."""
    return numbers.view(-1, 1, 1, 1)


def _blended(far: torch.Tensor, near: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return ((far * (65536 - factor) + near * factor + 128) >> 16).clamp_(0, 255)


def _grey(views: torch.Tensor) -> torch.Tensor:
    """[n, size, size, 1]."""
    red, green, blue = views[..., 0:1], views[..., 1:2], views[..., 2:3]
    return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16


def _brightness(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    return _blended(torch.zeros_like(views), views, _each(numbers[:, 0]))


def _contrast(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    pixels = views.shape[1] * views.shape[2]
    total = _grey(views).sum(dim=(1, 2, 3), dtype=torch.int64)
    mean = torch.div(2 * total + pixels, 2 * pixels, rounding_mode="floor")
    return _blended(_each(mean), views, _each(numbers[:, 0]))


def _saturation(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    return _blended(_grey(views), views, _each(numbers[:, 0]))


def _hue(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    red, green, blue = views.to(torch.int64).unbind(dim=3)
    high, low = views.amax(dim=3).to(torch.int64), views.amin(dim=3).to(torch.int64)
    chroma = high - low
    divisor = chroma.clamp(min=1)

    def place_of(first: torch.Tensor, second: torch.Tensor, offset: int) -> torch.Tensor:
        return torch.div((first - second) * 65536, divisor, rounding_mode="floor") + offset

    place = torch.where(
        high == red,
        place_of(green, blue, 0),
        torch.where(high == green, place_of(blue, red, 131072), place_of(red, green, 262144)),
    )
    place = torch.remainder(place + 6 * numbers[:, 0].view(-1, 1, 1), 393216)
    sector, change = place >> 16, (chroma * (place & 65535) + 32768) >> 16
    falling, rising = high - change, low + change
    channels = [
        torch.stack(parts).gather(0, sector[None])[0]
        for parts in (
            (high, falling, low, low, rising, high),
            (rising, high, high, falling, low, low),
            (low, low, rising, high, high, falling),
        )
    ]
    return torch.where((chroma == 0)[..., None], views.to(torch.int64), torch.stack(channels, dim=3))


def _sharpness(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    size = views.shape[1]
    if size < 3:
        return views
    total = 4 * views[:, 1:-1, 1:-1]
    for y in range(3):
        for x in range(3):
            total = total + views[:, y : size - 2 + y, x : size - 2 + x]
    smooth = torch.div(2 * total + 13, 26, rounding_mode="floor")
    found = views.to(torch.int64)
    found[:, 1:-1, 1:-1] = _blended(smooth, views[:, 1:-1, 1:-1], _each(numbers[:, 0]))
    return found


def _posterize(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    gone = _each(8 - numbers[:, 0])
    return views >> gone << gone


def _solarize(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    return torch.where(views < _each(numbers[:, 0]), views, 255 - views)


def _solarize_add(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    return torch.where(views < 128, (views + _each(numbers[:, 0])).clamp(max=255), views)


def _invert(views: torch.Tensor, _numbers: _Numbers) -> torch.Tensor:
    return 255 - views


def _autocontrast(views: torch.Tensor, _numbers: _Numbers) -> torch.Tensor:
    low, high = views.amin(dim=(1, 2), keepdim=True), views.amax(dim=(1, 2), keepdim=True)
    stretched = torch.div((views - low) * 255, (high - low).clamp(min=1), rounding_mode="floor")
    return torch.where(high > low, stretched, views)


def _equalize(views: torch.Tensor, _numbers: _Numbers) -> torch.Tensor:
    count, pixels = len(views), views.shape[1] * views.shape[2]
    levels = views.permute(0, 3, 1, 2).reshape(count * 3, pixels).to(torch.int64)
    counts = torch.zeros((count * 3, 256), dtype=torch.int64, device=views.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    highest = levels.amax(dim=1, keepdim=True)
    step = torch.div(pixels - counts.gather(1, highest), 255, rounding_mode="floor")
    passed = torch.div(step, 2, rounding_mode="floor") + counts.cumsum(1) - counts
    table = torch.div(passed, step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=views.device))
    return table.gather(1, levels).view(count, 3, *views.shape[1:3]).permute(0, 2, 3, 1)


def _affine(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    count, size = len(views), views.shape[1]
    a, b, c, d, e, f, packed = (column.view(-1, 1, 1) for column in numbers.unbind(dim=1))
    middle = 2 * torch.arange(size, device=views.device) + 1
    across = a * middle + b * middle[:, None] + 2 * c
    down = d * middle + e * middle[:, None] + 2 * f
    edge = size << 17
    outside = (across < 0) | (down < 0) | (across >= edge) | (down >= edge)
    flat = views.reshape(count, size * size, 3)

    def at(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """int64 [n, size, size, 3]."""
        place = (y.clamp(0, size - 1) * size + x.clamp(0, size - 1)).view(count, -1, 1).expand(-1, -1, 3)
        return flat.gather(1, place).view(count, size, size, 3).to(torch.int64)

    across0, down0 = across - 65536, down - 65536
    x0, y0 = across0 >> 17, down0 >> 17
    right, low = ((across0 >> 6) & 2047)[..., None], ((down0 >> 6) & 2047)[..., None]
    upper = at(y0, x0) * (2048 - right) + at(y0, x0 + 1) * right
    lower = at(y0 + 1, x0) * (2048 - right) + at(y0 + 1, x0 + 1) * right
    bilinear = (upper * (2048 - low) + lower * low) >> 22
    found = torch.where((packed >> 24 > 0)[..., None], bilinear, at(down >> 17, across >> 17))
    return torch.where(outside[..., None], _colour(packed), found)


def _colour(packed: torch.Tensor) -> torch.Tensor:
    """[n, 1, 1] as colours [n, 1, 1, 3]."""
    return torch.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], dim=-1)


def _blur(views: torch.Tensor, numbers: _Numbers, filters: torch.Tensor) -> torch.Tensor:
    weights = filters[numbers[:, 0]]
    reach = weights.shape[1] - 1
    size = views.shape[1]

    def along(dim: int, values: torch.Tensor) -> torch.Tensor:
        place = torch.arange(-reach, size + reach, device=views.device).abs()
        place = torch.where(place >= size, 2 * (size - 1) - place, place).clamp(0, size - 1)
        padded = values.index_select(dim, place)
        total = _each(weights[:, 0]) * padded.narrow(dim, reach, size)
        for far in range(1, reach + 1):
            pair = padded.narrow(dim, reach - far, size) + padded.narrow(dim, reach + far, size)
            total = total + _each(weights[:, far]) * pair
        return total

    across = (along(2, views) + 64) >> 7
    return (along(1, across) + 1048576) >> 21


_SPLIT_MIX = (0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def _shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _noise(seed: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    z = seed + (place + 1) * _SPLIT_MIX[0]
    z = (z ^ _shifted(z, 30)) * _SPLIT_MIX[1]
    z = (z ^ _shifted(z, 27)) * _SPLIT_MIX[2]
    return z ^ _shifted(z, 31)


def _noise_levels(words: torch.Tensor) -> torch.Tensor:
    """[…] as levels […, 3]."""
    levels = [
        middle - spread + (((words >> 16 * channel & 65535) * (2 * spread + 1)) >> 16)
        for channel, (middle, spread) in enumerate(((124, 101), (116, 99), (104, 99)))
    ]
    return torch.stack(levels, dim=-1)


def _erase(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    size = views.shape[1]
    top, left, bottom, right, packed, low, high = (column.view(-1, 1, 1) for column in numbers.unbind(dim=1))
    seed = (low & 0xFFFFFFFF) | (high << 32)
    line = torch.arange(size, device=views.device)
    inside = (line[:, None] >= top) & (line[:, None] < bottom) & (line >= left) & (line < right)
    how = packed >> 24
    place = torch.where(how == 2, line[:, None] * size + line, size * size)
    filled = torch.where((how == 0)[..., None], _colour(packed), _noise_levels(_noise(seed, place)))
    return torch.where(inside[..., None], filled, views)


def _mirror(views: torch.Tensor, numbers: _Numbers) -> torch.Tensor:
    return torch.where(_each(numbers[:, 0]) == 1, views.flip(2), views.flip(1))


_DONE: Mapping[Kind, Callable[[torch.Tensor, _Numbers], torch.Tensor]] = {
    Kind.BRIGHTNESS: _brightness,
    Kind.CONTRAST: _contrast,
    Kind.SATURATION: _saturation,
    Kind.HUE: _hue,
    Kind.SHARPNESS: _sharpness,
    Kind.POSTERIZE: _posterize,
    Kind.SOLARIZE: _solarize,
    Kind.SOLARIZE_ADD: _solarize_add,
    Kind.INVERT: _invert,
    Kind.AUTOCONTRAST: _autocontrast,
    Kind.EQUALIZE: _equalize,
    Kind.AFFINE: _affine,
    Kind.ERASE: _erase,
    Kind.MIRROR: _mirror,
}
