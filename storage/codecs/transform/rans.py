"""Symbols to bytes and back: range asymmetric numeral systems (rANS) over integer frequencies, row by row.

Trellis state and scale class are followed symbol by symbol, in the encoder as in the decoder, so both always hold the
same table. Integer throughout: the same bytes give the same symbols everywhere. Source: Duda, arXiv:1311.2540; 64-bit
state and 32-bit words after Giesen. It knows nothing of logits.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stillroom.storage.errors import DamagedObjectError
from stillroom.storage.jit import compiled

from .contexts import CLASS_COUNT, TOTAL_BITS, ScaleContext
from .trellis import NEXT_STATE

_LOW = 1 << 31


@dataclass(frozen=True)
class SymbolTables:
    """The entropy models of all scale classes and both quantisers.

    Attributes:
        sizes: int64 [classes], the largest symbol magnitude.
        starts: int64 [classes, 2], where a table begins in `cumulative`.
        cumulative: int64, per table the cumulative frequencies of magnitudes 0 … size, and the total.
        bits: float32 [classes, 2, magnitudes], the price of a magnitude, sign included; high beyond a class' size.
    """

    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    cumulative: NDArray[np.int64]
    bits: NDArray[np.float32]

    @classmethod
    def build(cls, sizes: NDArray[np.int32], frequencies: NDArray[np.uint32]) -> Self:
        """Tables from the model's flat frequencies: per class and quantiser, magnitudes 0 … size.

        Raises:
            DamagedObjectError: the frequencies of a table do not add up.
        """
        bits = np.full((CLASS_COUNT, 2, int(sizes.max()) + 1), 64, np.float32)
        starts = np.zeros((CLASS_COUNT, 2), np.int64)
        parts = []
        at = 0
        if len(sizes) != CLASS_COUNT or int((sizes + 1).sum()) * 2 != len(frequencies) or not (frequencies > 0).all():
            raise DamagedObjectError("a transform model has tables of the wrong size")
        for index, size in enumerate(sizes):
            for quantiser in range(2):
                counts = frequencies[at : at + size + 1].astype(np.int64)
                if counts.sum() != 1 << TOTAL_BITS:
                    raise DamagedObjectError("a transform model has a table that does not add up")
                starts[index, quantiser] = at + 2 * index + quantiser
                at += size + 1
                parts.append(np.concatenate([[0], np.cumsum(counts)]))
                price = TOTAL_BITS - np.log2(counts)
                price[1:] += 1
                bits[index, quantiser, : size + 1] = price
        return cls(sizes.astype(np.int64), starts, np.concatenate(parts), bits)


@compiled
def _class_of(energy: Any, base: int, limits: NDArray[np.int64], start: int, end: int) -> int:
    index = base
    while start < end and energy >= limits[start]:
        start += 1
        index += 1
    return min(index, CLASS_COUNT - 1)


@compiled
def classes_of(
    magnitudes: NDArray[np.int32],
    weights: NDArray[np.int64],
    base: NDArray[np.int64],
    limits: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """The scale class of every coefficient, uint8 [rows, K], from the levels' magnitudes, int32 [rows, K]."""
    rows, axes = magnitudes.shape
    out = np.empty((rows, axes), np.uint8)
    for row in range(rows):
        energy = np.int64(0)
        for axis in range(axes):
            out[row, axis] = _class_of(energy, base[axis], limits, ends[axis], ends[axis + 1])
            energy += magnitudes[row, axis] * weights[axis]
    return out


@compiled
def follow(
    symbols: NDArray[np.int32],
    weights: NDArray[np.int64],
    base: NDArray[np.int64],
    limits: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The quantiser in force (0 or 1) and the scale class of every symbol, both uint8 [rows, K]."""
    rows, axes = symbols.shape
    odd = np.empty((rows, axes), np.uint8)
    classes = np.empty((rows, axes), np.uint8)
    for row in range(rows):
        state = 0
        energy = np.int64(0)
        for axis in range(axes):
            odd[row, axis] = state & 1
            classes[row, axis] = _class_of(energy, base[axis], limits, ends[axis], ends[axis + 1])
            k = np.int64(abs(symbols[row, axis]))
            if k:
                energy += (2 * k - (state & 1)) * weights[axis]
            state = NEXT_STATE[state, k & 1]
    return odd, classes


@compiled
def _encode(
    symbols: NDArray[np.int32],
    odd: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    starts: NDArray[np.int64],
    cumulative: NDArray[np.int64],
    out: NDArray[np.uint32],
) -> int:
    rows, axes = symbols.shape
    state = np.uint64(_LOW)
    one = np.uint64(1)
    word = np.uint64(32)
    shift = np.uint64(TOTAL_BITS)
    count = 0
    for row in range(rows - 1, -1, -1):
        for axis in range(axes - 1, -1, -1):
            k = symbols[row, axis]
            magnitude = abs(k)
            if magnitude:
                if state >> np.uint64(62):
                    out[count] = np.uint32(state & np.uint64(0xFFFFFFFF))
                    count += 1
                    state >>= word
                state = (state << one) | np.uint64(k < 0)
            at = starts[classes[row, axis], odd[row, axis]] + magnitude
            low = np.uint64(cumulative[at])
            frequency = np.uint64(cumulative[at + 1]) - low
            if state >= frequency << np.uint64(63 - TOTAL_BITS):
                out[count] = np.uint32(state & np.uint64(0xFFFFFFFF))
                count += 1
                state >>= word
            state = ((state // frequency) << shift) + state % frequency + low
    out[count] = np.uint32(state & np.uint64(0xFFFFFFFF))
    out[count + 1] = np.uint32(state >> word)
    return count + 2


def encode(
    symbols: NDArray[np.int32], odd: NDArray[np.uint8], classes: NDArray[np.uint8], tables: SymbolTables
) -> NDArray[np.uint32]:
    """The words of the rANS coder, in the order they are read; none for no symbols.

    Args:
        symbols: int32 [rows, K], none beyond its class' size.
        odd: uint8 [rows, K], the quantiser in force.
        classes: uint8 [rows, K], scale classes.
        tables: the entropy models.
    """
    if not symbols.size:
        return np.zeros(0, np.uint32)
    out = np.empty(2 * symbols.size + 2, np.uint32)
    count = _encode(symbols, odd, classes, tables.starts, tables.cumulative, out)
    return out[:count][::-1].copy()


@compiled
def _decode(
    words: NDArray[np.uint32],
    weights: NDArray[np.int64],
    base: NDArray[np.int64],
    limits: NDArray[np.int64],
    ends: NDArray[np.int64],
    sizes: NDArray[np.int64],
    starts: NDArray[np.int64],
    cumulative: NDArray[np.int64],
    shifts: Any,
    scale: np.float32,
    out: NDArray[np.float32],
) -> bool:
    rows, axes = out.shape
    x = (np.uint64(words[0]) << np.uint64(32)) | np.uint64(words[1])
    at = 2
    mask = np.uint64((1 << TOTAL_BITS) - 1)
    for row in range(rows):
        state = 0
        energy = np.int64(0)
        for axis in range(axes):
            odd = state & 1
            index = _class_of(energy, base[axis], limits, ends[axis], ends[axis + 1])
            start = starts[index, odd]
            slot = np.int64(x & mask)
            k = np.int64(0)
            while k < 6 and slot >= cumulative[start + k + 1]:
                k += 1
            if slot >= cumulative[start + k + 1]:
                high = sizes[index]
                while k < high:
                    middle = (k + high) >> 1
                    if slot >= cumulative[start + middle + 1]:
                        k = middle + 1
                    else:
                        high = middle
            low = cumulative[start + k]
            x = np.uint64(cumulative[start + k + 1] - low) * (x >> np.uint64(TOTAL_BITS)) + np.uint64(slot - low)
            if x < np.uint64(_LOW):
                if at >= len(words):
                    return False
                x = (x << np.uint64(32)) | np.uint64(words[at])
                at += 1
            if k:
                level = (2 * k - odd) * 256 + shifts[index, odd, 2 if k > 2 else k - 1]
                value = np.float32(level) * scale
                if x & np.uint64(1):
                    value = -value
                out[row, axis] = value
                x >>= np.uint64(1)
                if x < np.uint64(_LOW):
                    if at >= len(words):
                        return False
                    x = (x << np.uint64(32)) | np.uint64(words[at])
                    at += 1
                energy += (2 * k - odd) * weights[axis]
            else:
                out[row, axis] = 0
            state = NEXT_STATE[state, k & 1]
    return at == len(words) and x == np.uint64(_LOW)


def decode(
    words: NDArray[np.uint32],
    rows: int,
    context: ScaleContext,
    tables: SymbolTables,
    shifts: NDArray[np.int16],
    step: float,
) -> NDArray[np.float32]:
    """Reconstructed coefficients, float32 [rows, K].

    Args:
        words: what `encode` gave.
        rows: how many rows they hold.
        context: the scale classes in force.
        tables: the entropy models.
        shifts: int16 [classes, 2, 3], see `TransformModel.shift`.
        step: the quantiser's step.

    Raises:
        DamagedObjectError: the words are no rANS stream of that many rows.
    """
    out = np.zeros((rows, len(context.weights)), np.float32)
    whole = len(words) == 0
    if out.size:
        whole = len(words) >= 2 and bool(
            _decode(
                words,
                context.weights,
                context.base,
                context.limits,
                context.ends,
                tables.sizes,
                tables.starts,
                tables.cumulative,
                shifts,
                np.float32(step / 256),
                out,
            )
        )
    if not whole:
        raise DamagedObjectError(f"a chunk of logits does not hold the symbols of {rows} rows")
    return out
