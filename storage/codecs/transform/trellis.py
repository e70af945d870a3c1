"""Trellis-coded quantisation: two interleaved quantisers, and an eight-state machine that says which one is in force.

A row's coefficients are quantised one after another. In even states the levels are the even multiples of the step, in
odd states the odd ones and zero; the parity of each symbol moves the machine. The encoder searches the best path
(Viterbi) through distortion plus rate, which buys more than half of the 0.25 bit per coefficient that separate a
uniform quantiser from the rate-distortion bound. Sources: Marcellin & Fischer, IEEE Trans. Comm. 38 (1990), for the
trellis; Schwarz et al., "Hybrid video coding with trellis-coded quantization", DCC 2019, for a zero in both quantisers.

All arithmetic is integer: the same input gives the same symbols everywhere. It knows nothing of logits.
"""

import numpy as np
from numpy.typing import NDArray

from stillroom.storage.jit import compiled

STATES = 8
# Values are in 1/64 step, costs in 1/4096 squared step.
UNIT = 64
# Levels by subset, in magnitudes: 0 mod 4 and 2 mod 4 (even multiples), 0 3 7 11… and 1 5 9… (odd multiples and zero).
# Symbols of subset 0 and 2 are even, of 1 and 3 odd.
_OFFSET = np.array([0, 2, -1, 1], np.int64)
# The subset on each state's two branches; branch b leads from state s to (2 s + b) mod 8.
_SUBSET = np.array([[0, 1], [3, 2], [1, 0], [2, 3], [1, 0], [2, 3], [0, 1], [3, 2]], np.int64)
# The next state by [state, parity of the symbol].
NEXT_STATE = np.array(
    [[(2 * s + b) % STATES for parity in (0, 1) for b in (0, 1) if _SUBSET[s, b] % 2 == parity] for s in range(STATES)],
    np.int64,
)


@compiled
def quantise(
    values: NDArray[np.int64], prices: NDArray[np.int64], classes: NDArray[np.uint8], bias: int
) -> NDArray[np.int32]:
    """The symbols of the path with the least distortion plus rate.

    Args:
        values: int64 [rows, axes], in 1/64 step, at most 2**26 in magnitude.
        prices: int64 [classes, 2, magnitudes], of a symbol's magnitude, in 1/4096 squared step, by quantiser.
        classes: uint8 [rows, axes], which class prices a coefficient.
        bias: how far below the midpoint a value must be for the lower level to be taken, in 1/64 step.

    Returns:
        int32 [rows, axes].
    """
    rows, axes = values.shape
    out = np.zeros((rows, axes), np.int32)
    symbol = np.empty((axes, 4), np.int32)
    taken = np.empty((axes, STATES), np.uint8)
    cost = np.empty(4, np.int64)
    path = np.empty(STATES, np.int64)
    after = np.empty(STATES, np.int64)
    far = np.int64(1) << 60
    top = prices.shape[2] - 1
    for row in range(rows):
        path[:] = far
        path[0] = 0
        for axis in range(axes):
            magnitude = abs(values[row, axis])
            price = prices[classes[row, axis]]
            for subset in range(4):
                offset = _OFFSET[subset] * UNIT
                level = ((magnitude - offset - bias + 2 * UNIT) >> 8) * 4 * UNIT + offset
                level = max(level, offset, 0)
                k = ((level >> 6) + (subset >> 1)) >> 1
                if k > top:
                    k = top - (top - subset) % 2
                error = magnitude - level
                symbol[axis, subset] = k
                cost[subset] = error * error + price[subset >> 1, k]
            for state in range(STATES):
                first = state >> 1
                a = path[first] + cost[_SUBSET[first, state & 1]]
                b = path[first + 4] + cost[_SUBSET[first + 4, state & 1]]
                taken[axis, state] = b < a
                after[state] = min(a, b)
            path, after = after, path
        state = 0
        for other in range(1, STATES):
            if path[other] < path[state]:
                state = other
        for axis in range(axes - 1, -1, -1):
            before = (state >> 1) + 4 * taken[axis, state]
            k = symbol[axis, _SUBSET[before, state & 1]]
            out[row, axis] = -k if values[row, axis] < 0 else k
            state = before
    return out
