"""Steps on a CPU: one compiled loop over the views of a batch, without the interpreter's lock.

Integers only; each view is worked on in place, with one view of scratch memory. `tensors` is the same for a GPU, and a
test holds the two together.
"""

from typing import Any

import numpy as np

from stillroom.storage.jit import compiled


@compiled
def paint(views: Any, steps: Any, filters: Any) -> None:
    """Carry out steps in place.

    Args:
        views: uint8 [n, size, size, 3].
        steps: int32 [n, k, 8], placed.
        filters: int32 [m, r + 1].
    """
    scratch = np.empty(views.shape[1:], np.uint8)
    for n in range(views.shape[0]):
        view = views[n]
        for k in range(steps.shape[1]):
            row = steps[n, k]
            kind = row[0]
            if kind == 1:
                _brightness(view, row[1])
            elif kind == 2:
                _contrast(view, row[1])
            elif kind == 3:
                _saturation(view, row[1])
            elif kind == 4:
                _hue(view, row[1])
            elif kind == 5:
                _sharpness(view, row[1], scratch)
            elif kind == 6:
                _levels(view, _posterized(row[1]))
            elif kind == 7:
                _levels(view, _solarized(row[1]))
            elif kind == 8:
                _levels(view, _solarize_added(row[1]))
            elif kind == 9:
                _levels(view, _solarized(0))
            elif kind == 10:
                _autocontrast(view)
            elif kind == 11:
                _equalize(view)
            elif kind == 12:
                _affine(view, row, scratch)
            elif kind == 14:
                _blur(view, filters[row[1]])
            elif kind == 15:
                _erase(view, row)
            elif kind == 16:
                _mirror(view, row[1])


@compiled
def paint_mirrored(views: Any, steps: Any) -> None:
    """The same where all that is to be done is to mirror: most recipes need no more, and this is compiled at once."""
    for n in range(views.shape[0]):
        for k in range(steps.shape[1]):
            if steps[n, k, 0] == 16:
                _mirror(views[n], steps[n, k, 1])


@compiled
def _blended(far: int, near: int, factor: int) -> int:
    """Between `far` (factor 0) and `near` (factor 1), or beyond; rounded down, but for 1/512, and clipped.

    That much is what a factor of sixteen bits may lack of a product that Pillow finds whole.
    """
    value = (far * (65536 - factor) + near * factor + 128) >> 16
    return min(max(value, 0), 255)


@compiled
def _grey(red: int, green: int, blue: int) -> int:
    return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16


@compiled
def _levels(view: Any, table: Any) -> None:
    flat = view.reshape(-1)
    for i in range(flat.shape[0]):
        flat[i] = table[flat[i]]


@compiled
def _brightness(view: Any, factor: int) -> None:
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = _blended(0, level, factor)
    _levels(view, table)


@compiled
def _contrast(view: Any, factor: int) -> None:
    total = 0
    pixels = view.reshape(-1, 3)
    for i in range(pixels.shape[0]):
        total += _grey(int(pixels[i, 0]), int(pixels[i, 1]), int(pixels[i, 2]))
    mean = (2 * total + pixels.shape[0]) // (2 * pixels.shape[0])
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = _blended(mean, level, factor)
    _levels(view, table)


@compiled
def _saturation(view: Any, factor: int) -> None:
    pixels = view.reshape(-1, 3)
    for i in range(pixels.shape[0]):
        red, green, blue = int(pixels[i, 0]), int(pixels[i, 1]), int(pixels[i, 2])
        grey = _grey(red, green, blue)
        pixels[i, 0] = _blended(grey, red, factor)
        pixels[i, 1] = _blended(grey, green, factor)
        pixels[i, 2] = _blended(grey, blue, factor)


@compiled
def _hue(view: Any, turn: int) -> None:
    pixels = view.reshape(-1, 3)
    for i in range(pixels.shape[0]):
        red, green, blue = int(pixels[i, 0]), int(pixels[i, 1]), int(pixels[i, 2])
        high, low = max(red, green, blue), min(red, green, blue)
        chroma = high - low
        if chroma == 0:
            continue
        if high == red:
            place = ((green - blue) * 65536) // chroma
        elif high == green:
            place = ((blue - red) * 65536) // chroma + 131072
        else:
            place = ((red - green) * 65536) // chroma + 262144
        place = (place + 6 * turn) % 393216
        sector, part = place >> 16, place & 65535
        falling = high - ((chroma * part + 32768) >> 16)
        rising = low + ((chroma * part + 32768) >> 16)
        if sector == 0:
            red, green, blue = high, rising, low
        elif sector == 1:
            red, green, blue = falling, high, low
        elif sector == 2:
            red, green, blue = low, high, rising
        elif sector == 3:
            red, green, blue = low, falling, high
        elif sector == 4:
            red, green, blue = rising, low, high
        else:
            red, green, blue = high, low, falling
        pixels[i, 0], pixels[i, 1], pixels[i, 2] = red, green, blue


@compiled
def _sharpness(view: Any, factor: int, scratch: Any) -> None:
    """Towards a 3 × 3 mean that counts the middle five times; the outermost pixels stay."""
    scratch[:] = view
    size = view.shape[0]
    source, target = scratch.reshape(size, -1), view.reshape(size, -1)
    for y in range(1, size - 1):
        above, here, below, out = source[y - 1], source[y], source[y + 1], target[y]
        for x in range(3, 3 * size - 3):
            total = (
                int(above[x - 3]) + above[x] + above[x + 3]
                + here[x - 3] + 5 * int(here[x]) + here[x + 3]
                + below[x - 3] + below[x] + below[x + 3]
            )  # fmt: skip
            out[x] = _blended((2 * total + 13) // 26, int(here[x]), factor)


@compiled
def _posterized(bits: int) -> Any:
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = level >> (8 - bits) << (8 - bits)
    return table


@compiled
def _solarized(threshold: int) -> Any:
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = level if level < threshold else 255 - level
    return table


@compiled
def _solarize_added(more: int) -> Any:
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = min(level + more, 255) if level < 128 else level
    return table


@compiled
def _counts(pixels: Any, channel: int) -> Any:
    counts = np.zeros(256, np.int64)
    for i in range(pixels.shape[0]):
        counts[pixels[i, channel]] += 1
    return counts


@compiled
def _mapped(pixels: Any, channel: int, table: Any) -> None:
    for i in range(pixels.shape[0]):
        pixels[i, channel] = table[pixels[i, channel]]


@compiled
def _autocontrast(view: Any) -> None:
    pixels = view.reshape(-1, 3)
    table = np.empty(256, np.uint8)
    for channel in range(3):
        low, high = 255, 0
        for i in range(pixels.shape[0]):
            low, high = min(low, int(pixels[i, channel])), max(high, int(pixels[i, channel]))
        if high > low:
            for level in range(256):
                table[level] = min(max((level - low) * 255 // (high - low), 0), 255)
            _mapped(pixels, channel, table)


@compiled
def _equalize(view: Any) -> None:
    pixels = view.reshape(-1, 3)
    table = np.empty(256, np.uint8)
    for channel in range(3):
        counts = _counts(pixels, channel)
        last = 255
        while counts[last] == 0:
            last -= 1
        step = (pixels.shape[0] - counts[last]) // 255
        if step:
            passed = step // 2
            for level in range(256):
                table[level] = min(passed // step, 255)
                passed += counts[level]
            _mapped(pixels, channel, table)


@compiled
def _affine(view: Any, row: Any, scratch: Any) -> None:
    scratch[:] = view
    size = view.shape[0]
    a, b, d, e = int(row[1]), int(row[2]), int(row[4]), int(row[5])
    bilinear = row[7] >> 24
    edge = size << 17
    for y in range(size):
        # Of the middle of a pixel, in 1/131072 of one.
        left = a + b * (2 * y + 1) + 2 * int(row[3])
        top = d + e * (2 * y + 1) + 2 * int(row[6])
        for x in range(size):
            across, down = left + 2 * a * x, top + 2 * d * x
            if across < 0 or down < 0 or across >= edge or down >= edge:
                view[y, x, 0], view[y, x, 1], view[y, x, 2] = row[7] >> 16 & 255, row[7] >> 8 & 255, row[7] & 255
            elif bilinear:
                across, down = across - 65536, down - 65536
                x0, y0 = across >> 17, down >> 17
                right, low = (across >> 6) & 2047, (down >> 6) & 2047
                x1, y1 = min(x0 + 1, size - 1), min(y0 + 1, size - 1)
                x0, y0 = max(x0, 0), max(y0, 0)
                for channel in range(3):
                    upper = int(scratch[y0, x0, channel]) * (2048 - right) + int(scratch[y0, x1, channel]) * right
                    lower = int(scratch[y1, x0, channel]) * (2048 - right) + int(scratch[y1, x1, channel]) * right
                    view[y, x, channel] = (upper * (2048 - low) + lower * low) >> 22
            else:
                for channel in range(3):
                    view[y, x, channel] = scratch[down >> 17, across >> 17, channel]


@compiled
def _reflected(place: int, size: int) -> int:
    """A place beyond an edge, mirrored at the outermost pixel."""
    if place < 0:
        place = -place
    return 2 * (size - 1) - place if place >= size else place


@compiled
def _blur(view: Any, weights: Any) -> None:
    """Along rows into 15 bits, then along columns; each rounded half up."""
    size = view.shape[0]
    reach = weights.shape[0] - 1
    while reach > 0 and weights[reach] == 0:
        reach -= 1
    across = np.empty((size, 3 * size), np.int32)
    padded = np.empty(3 * (size + 2 * reach), np.int32)
    for y in range(size):
        for x in range(-reach, size + reach):
            from_x = _reflected(x, size)
            for channel in range(3):
                padded[3 * (x + reach) + channel] = view[y, from_x, channel]
        out = across[y]
        middle = padded[3 * reach : 3 * (reach + size)]
        for i in range(3 * size):
            out[i] = weights[0] * middle[i]
        for far in range(1, reach + 1):
            before = padded[3 * (reach - far) : 3 * (reach - far + size)]
            after = padded[3 * (reach + far) : 3 * (reach + far + size)]
            weight = weights[far]
            for i in range(3 * size):
                out[i] += weight * (before[i] + after[i])
        for i in range(3 * size):
            out[i] = (out[i] + 64) >> 7
    total = padded if padded.shape[0] >= 3 * size else np.empty(3 * size, np.int32)
    flat = view.reshape(size, -1)
    for y in range(size):
        for i in range(3 * size):
            total[i] = weights[0] * across[y, i]
        for far in range(1, reach + 1):
            before, after = across[_reflected(y - far, size)], across[_reflected(y + far, size)]
            weight = weights[far]
            for i in range(3 * size):
                total[i] += weight * (before[i] + after[i])
        for i in range(3 * size):
            flat[y, i] = (total[i] + 1048576) >> 21


@compiled
def _mirror(view: Any, axis: int) -> None:
    size = view.shape[0]
    for y in range(size if axis == 1 else size // 2):
        for x in range(size // 2 if axis == 1 else size):
            to_y, to_x = (y, size - 1 - x) if axis == 1 else (size - 1 - y, x)
            for channel in range(3):
                level = view[y, x, channel]
                view[y, x, channel] = view[to_y, to_x, channel]
                view[to_y, to_x, channel] = level


@compiled
def _noise(seed: Any, place: Any) -> Any:
    """64 random bits of a place: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), as a counter-based generator."""
    z = seed + (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def _noise_level(word: Any, channel: int) -> int:
    """Uniform, with the mean and the standard deviation of ImageNet's pixels in that channel, in whole levels."""
    middle = 124 if channel == 0 else 116 if channel == 1 else 104
    spread = 101 if channel == 0 else 99
    byte = int((word >> np.uint64(16 * channel)) & np.uint64(65535))
    return middle - spread + ((byte * (2 * spread + 1)) >> 16)


@compiled
def _erase(view: Any, row: Any) -> None:
    how = row[5] >> 24
    seed = np.uint64(np.uint32(row[6])) | (np.uint64(np.uint32(row[7])) << np.uint64(32))
    size = view.shape[0]
    one = _noise(seed, np.uint64(size * size))
    for y in range(row[1], row[3]):
        for x in range(row[2], row[4]):
            word = _noise(seed, np.uint64(y * size + x)) if how == 2 else one
            for channel in range(3):
                if how == 0:
                    view[y, x, channel] = row[5] >> (16 - 8 * channel) & 255
                else:
                    view[y, x, channel] = _noise_level(word, channel)
