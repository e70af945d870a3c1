"""Resizing windows to views on a CPU, in integers: what pixels are is defined here, and by no library's version.

For an output's place i of S, from L places, the centre lies at (i + 1/2)·L/S. A filter is a triangle (bilinear) or
Keys' cubic with a = −1/2 (bicubic), as wide as one step of the input; with antialias, where L > S, as one of the
output. Its values at the input's places are exact rationals; those beyond the edge are left out. They are scaled to a
sum of 2^14 and rounded half up; the largest takes what rounding left over. Columns first: sums of weight × level, plus
64, shifted right by 7. Then rows: sums of weight × that, plus 2^20, shifted right by 21, clipped to 0 … 255.
"""

from typing import Any

import numpy as np

from stillroom.storage.jit import compiled


@compiled
def filter_weights(length: int, size: int, cubic: bool, antialias: bool) -> Any:
    """Weights by which each of `size` places is made of `length` others.

    Returns:
        first, int32 [size]: the first place that counts; count, int32 [size]: how many do; weights, int32 [size, most].
    """
    width = 2 * max(length, size) if antialias else 2 * size  # distances are in units of 1 / width
    reach = 2 * width if cubic else width
    coarse = 0
    while width >> coarse > 1 << 16:  # so that cubes fit into 64 bits
        coarse += 1
    unit = width >> coarse
    first, count = np.empty(size, np.int32), np.empty(size, np.int32)
    weights = np.zeros((size, reach // size + 2), np.int32)
    values = np.empty(weights.shape[1], np.int64)
    for i in range(size):
        centre = (2 * i + 1) * length
        place = max((centre - reach) // (2 * size) - 1, 0)
        while (2 * place + 1) * size - centre <= -reach:
            place += 1
        first[i] = place
        taken, total = 0, 0
        while place < length and (2 * place + 1) * size - centre < reach:
            far = abs((2 * place + 1) * size - centre) >> coarse
            if not cubic:
                value = unit - far
            elif far < unit:
                value = 3 * far**3 - 5 * far**2 * unit + 2 * unit**3
            else:
                value = -(far**3) + 5 * far**2 * unit - 8 * far * unit**2 + 4 * unit**3
            values[taken] = value
            total += value
            taken += 1
            place += 1
        count[i] = taken
        left, largest = 1 << 14, 0
        for k in range(taken):
            weights[i, k] = ((values[k] << 15) + total) // (2 * total)
            left -= weights[i, k]
            if values[k] > values[largest]:
                largest = k
        weights[i, largest] += left
    return first, count, weights


@compiled
def resize(window: Any, view: Any, cubic: bool, antialias: bool) -> None:
    """Resize a window into a view.

    Args:
        window: uint8 [height, width, 3], contiguous.
        view: uint8 [size, size, 3], is written.
        cubic: bicubic, else bilinear.
        antialias: whether reducing counts every pixel.
    """
    height, width, size = window.shape[0], window.shape[1], view.shape[0]
    first_y, count_y, weights_y = filter_weights(height, size, cubic, antialias)
    first_x, count_x, weights_x = filter_weights(width, size, cubic, antialias)
    lines = window.reshape(height, 3 * width)
    column = np.empty(3 * width, np.int32)
    for y in range(size):
        line, weight = lines[first_y[y]], weights_y[y, 0]
        for i in range(3 * width):
            column[i] = 64 + weight * line[i]
        for k in range(1, count_y[y]):
            line, weight = lines[first_y[y] + k], weights_y[y, k]
            for i in range(3 * width):
                column[i] += weight * line[i]
        for i in range(3 * width):
            column[i] = column[i] >> 7
        for x in range(size):
            red = green = blue = 1 << 20
            place = 3 * first_x[x]
            for k in range(count_x[x]):
                weight = weights_x[x, k]
                red += weight * column[place]
                green += weight * column[place + 1]
                blue += weight * column[place + 2]
                place += 3
            view[y, x, 0] = min(max(red >> 21, 0), 255)
            view[y, x, 1] = min(max(green >> 21, 0), 255)
            view[y, x, 2] = min(max(blue >> 21, 0), 255)
