"""Trellis-coded quantisation: two interleaved quantisers, and an eight-state machine that says which one is in force.

A row's coefficients are quantised one after another. In even states the levels are the even multiples of the step, in
odd states the odd ones and zero; the parity of each symbol moves the machine. The encoder searches the best path
(Viterbi) through distortion plus rate, which buys about two thirds of the 0.25 bit per coefficient that separate a
uniform quantiser from the rate-distortion bound. Sources: Marcellin & Fischer, IEEE Trans. Comm. 38 (1990), for the
trellis; Schwarz et al., "Hybrid video coding with trellis-coded quantization", DCC 2019, for a zero in both quantisers.

All arithmetic is integer or element-wise IEEE: the same input gives the same symbols everywhere. It knows nothing of
logits.
"""

import numpy as np
from numpy.typing import NDArray

STATES = 8
# Levels by subset, in magnitudes: 0 mod 4 and 2 mod 4 (even multiples), 0 3 7 11… and 1 5 9… (odd multiples and zero).
_OFFSET = np.array([0, 2, -1, 1], np.float32)
# The subset on each state's two branches; the branch bit b leads from state s to (2 s + b) mod 8.
_SUBSET = np.array([[0, 1], [3, 2], [1, 0], [2, 3], [1, 0], [2, 3], [0, 1], [3, 2]])
# Symbols of subset 0 and 2 are even, of 1 and 3 odd: the next state by [state, parity of the symbol].
NEXT_STATE = np.array(
    [[(2 * s + b) % STATES for parity in (0, 1) for b in (0, 1) if _SUBSET[s, b] % 2 == parity] for s in range(STATES)],
    np.uint8,
)
_BRANCH = np.arange(STATES) & 1
_FROM_A = np.arange(STATES) >> 1
_FROM_B = _FROM_A + STATES // 2
_SUBSET_A = _SUBSET[_FROM_A, _BRANCH]
_SUBSET_B = _SUBSET[_FROM_B, _BRANCH]


def levels(symbols: NDArray[np.integer], odd: NDArray[np.integer]) -> NDArray[np.int32]:
    """The multiples of the step that symbols stand for.

    Args:
        symbols: integers of any shape.
        odd: 1 where the second quantiser (odd states) was in force, else 0; same shape.
    """
    wide = symbols.astype(np.int32)
    out: NDArray[np.int32] = 2 * wide - np.sign(wide) * odd.astype(np.int32)
    return out


def walk(symbols: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Which quantiser is in force at each symbol: 0 or 1, [rows, axes] like the symbols."""
    state = np.zeros(symbols.shape[0], np.uint8)
    odd = np.empty(symbols.shape, np.uint8)
    parity = (symbols & 1).astype(np.uint8)
    for axis in range(symbols.shape[1]):
        odd[:, axis] = state & 1
        state = NEXT_STATE[state, parity[:, axis]]
    return odd


def quantise(
    values: NDArray[np.float32], rate: NDArray[np.float32], table: NDArray[np.integer], bias: float
) -> NDArray[np.int32]:
    """The symbols of the path with the least distortion plus rate.

    Args:
        values: float32 [rows, axes], in steps.
        rate: float32 [tables, 2, magnitudes], the price of a symbol's magnitude in squared steps, by quantiser.
        table: integers [rows, axes], which of the tables prices a coefficient.
        bias: how far below the midpoint a level must be for the lower one to be taken, in steps.

    Returns:
        int32 [rows, axes].
    """
    rows, axes = values.shape
    if not rows or not axes:
        return np.zeros((rows, axes), np.int32)
    x = np.ascontiguousarray(values.T)
    magnitude = np.abs(x)
    which = np.ascontiguousarray(table.T).astype(np.int64) * (2 * rate.shape[2])
    prices = rate.reshape(-1)
    top = np.int32(rate.shape[2] - 1)
    symbol = np.empty((4, axes, rows), np.int32)
    cost = np.empty((4, axes, rows), np.float32)
    for subset in range(4):
        offset = _OFFSET[subset]
        quantiser = subset >> 1
        level = np.rint((magnitude - (offset + np.float32(bias))) * np.float32(0.25)) * np.float32(4) + offset
        np.maximum(level, max(offset, np.float32(0)), out=level)
        k = np.minimum((level.astype(np.int32) + quantiser) >> 1, top - (top - subset) % 2)
        symbol[subset] = k
        error = magnitude - level
        cost[subset] = error * error + prices[which + (k + quantiser * rate.shape[2])]
    taken = np.empty((axes, STATES, rows), np.bool_)
    path = np.full((STATES, rows), np.inf, np.float32)
    path[0] = 0
    for axis in range(axes):
        here = cost[:, axis]
        a = path[_FROM_A] + here[_SUBSET_A]
        b = path[_FROM_B] + here[_SUBSET_B]
        np.less(b, a, out=taken[axis])
        path = np.minimum(a, b)
    state = path.argmin(axis=0)
    every = np.arange(rows)
    chosen = np.empty((axes, rows), np.int64)
    for axis in range(axes - 1, -1, -1):
        before = (state >> 1) + 4 * taken[axis, state, every]
        chosen[axis] = _SUBSET[before, state & 1]
        state = before
    out: NDArray[np.int32] = np.take_along_axis(symbol, chosen[None], 0)[0]
    np.negative(out, out=out, where=x < 0)
    return out.T
