"""Symbols to bytes and back: asymmetric numeral systems over integer frequencies, axis by axis, table by table.

The coder is constriction's ANS coder. Its tables come from integer frequencies that add up to 2**20, exact in a double,
so encoder and decoder agree on every machine. Within an axis, rows are grouped by their table, so that each group is
one vectorised call. It knows nothing of logits.
"""

from dataclasses import dataclass
from typing import Any

import constriction  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedObjectError
from .scales import CLASS_COUNT, ScaleContext
from .trellis import NEXT_STATE

_Categorical = constriction.stream.model.Categorical
_AnsCoder = constriction.stream.stack.AnsCoder


@dataclass(frozen=True)
class SymbolTables:
    """The entropy models of all scale classes and both quantisers.

    Attributes:
        sizes: largest symbol magnitude of each class.
        models: per class, per quantiser: constriction's model over symbols -size … size.
        bits: float32 [classes, 2, magnitudes], the price of a magnitude, sign included; high beyond a class' size.
    """

    sizes: NDArray[np.int32]
    models: tuple[tuple[Any, Any], ...]
    bits: NDArray[np.float32]

    @classmethod
    def build(cls, sizes: NDArray[np.int32], frequencies: NDArray[np.uint32]) -> "SymbolTables":
        """Tables from the model's flat frequencies: per class and quantiser, magnitudes 0 … size."""
        models = []
        bits = np.full((CLASS_COUNT, 2, int(sizes.max()) + 1), 64, np.float32)
        at = 0
        for index, size in enumerate(sizes):
            pair = []
            for quantiser in range(2):
                counts = frequencies[at : at + size + 1].astype(np.float64)
                at += size + 1
                one_sided = counts[1:] / 2
                pair.append(_Categorical(np.concatenate([one_sided[::-1], counts[:1], one_sided]), perfect=False))
                price = -np.log2(counts / counts.sum())
                price[1:] += 1
                bits[index, quantiser, : size + 1] = price
            models.append((pair[0], pair[1]))
        return cls(sizes, tuple(models), bits)


def encode(
    symbols: NDArray[np.int32], odd: NDArray[np.uint8], classes: NDArray[np.int64], tables: SymbolTables
) -> NDArray[np.uint32]:
    """The words of the ANS coder.

    Args:
        symbols: int32 [rows, K], none beyond its class' size.
        odd: [rows, K], the quantiser in force (0 or 1).
        classes: [rows, K], scale classes.
        tables: the entropy models.
    """
    coder = _AnsCoder()
    keys = (classes << 1 | odd).astype(np.uint8)
    for axis in range(symbols.shape[1] - 1, -1, -1):
        key = keys[:, axis]
        order = np.argsort(key, kind="stable")
        column = np.ascontiguousarray(symbols[order, axis])
        counts = np.bincount(key)
        end = len(column)
        for value in np.flatnonzero(counts)[::-1].tolist():
            start = end - int(counts[value])
            index, quantiser = value >> 1, value & 1
            coder.encode_reverse(column[start:end] + tables.sizes[index], tables.models[index][quantiser])
            end = start
    words: NDArray[np.uint32] = coder.get_compressed()
    return words


def decode(
    words: NDArray[np.uint32], rows: int, context: ScaleContext, tables: SymbolTables
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Symbols, and keys 2 · class + quantiser, both [K, rows].

    Raises:
        DamagedObjectError: the words are no ANS stream, or are not used up.
    """
    try:
        coder = _AnsCoder(words)
    except ValueError as error:
        raise DamagedObjectError(f"a chunk of logits holds no symbols: {error}") from error
    axes = len(context.weights)
    symbols = np.zeros((axes, rows), np.int32)
    keys = np.empty((axes, rows), np.uint8)
    state = np.zeros(rows, np.uint8)
    energy = np.zeros(rows, np.int64)
    sizes = tables.sizes.tolist()
    for axis in range(axes if rows else 0):
        base = int(context.base[axis])
        odd = state & 1
        limits = context.thresholds[axis]
        if len(limits):
            index = np.searchsorted(limits, energy, side="right")
            index += base
            key = (np.minimum(index, CLASS_COUNT - 1) << 1).astype(np.uint8) | odd
        else:
            key = odd + np.uint8(min(base, CLASS_COUNT - 1) << 1)
        order = key.argsort(kind="stable")
        counts = np.bincount(key)
        parts = []
        for value in counts.nonzero()[0].tolist():
            part = coder.decode(tables.models[value >> 1][value & 1], int(counts[value]))
            part -= sizes[value >> 1]
            parts.append(part)
        column = symbols[axis]
        column[order] = np.concatenate(parts) if len(parts) > 1 else parts[0]
        keys[axis] = key
        state = NEXT_STATE[state, column & 1]
        magnitude = np.abs(column)
        energy += (2 * magnitude - (odd & (magnitude > 0))) * context.weights[axis]
    if not coder.is_empty():
        raise DamagedObjectError("a chunk of logits holds more symbols than rows")
    return symbols, keys
