"""The transform codec's arithmetic: logits to symbols to logits, for one model.

Rotation and mean are integer (exact in doubles, whatever the order of summation), everything after it element-wise, so
the same logits give the same symbols on every machine. Decoding is one matrix product in float32.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .contexts import ScaleContext, step_ratio
from .model import TransformModel
from .rans import SymbolTables, classes_of, decode, follow
from .trellis import UNIT, quantise

FRACTION = 1024
# Beyond ±4096 a row is stored exactly: 2**22 (logit) · 2**15 (axis) leaves the sum below 2**53 for any real row.
_LIMIT = 4096.0
_BLOCK = 1 << 20
_FAR = 2.0**26


@dataclass(frozen=True)
class Symbols:
    """Quantised rows.

    Attributes:
        symbols: int32 [rows, K].
        odd: uint8 [rows, K], the quantiser in force.
        classes: uint8 [rows, K], scale classes.
        fits: bool [rows], whether every symbol has a place in its table.
    """

    symbols: NDArray[np.int32]
    odd: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    fits: NDArray[np.bool_]


class Engine:
    """A model made ready for use; holds derived arrays only."""

    def __init__(self, model: TransformModel) -> None:
        self.model = model
        self.tables = SymbolTables.build(model.table_size, model.tables)
        analysis = model.analysis if len(model.analysis) else model.axes
        self._analysis = np.ascontiguousarray(analysis.T.astype(np.float64))
        # The offset is one more axis, whose coefficient is 1: no second pass over the logits.
        axes = np.concatenate([model.axes * model.axis_step[:, None], model.offset[None] / FRACTION])
        self._synthesis = axes.astype(np.float32)
        self._prices = np.rint(self.tables.bits.astype(np.float64) * (model.rate_price * UNIT**2)).astype(np.int64)
        self._bias = int(np.rint(model.bias * UNIT))
        self._contexts: dict[int, ScaleContext] = {}

    def context(self, refine: int) -> ScaleContext:
        """Scale classes at a step of 2**(-refine / 64) of the model's."""
        if refine not in self._contexts:
            m = self.model
            self._contexts[refine] = ScaleContext.refined(
                m.weights, m.base_scale, m.threshold_count, m.thresholds, refine
            )
        return self._contexts[refine]

    def step(self, refine: int) -> float:
        """The quantiser's step at that refinement."""
        return self.model.step * step_ratio(refine)

    def coefficients(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Coefficients float64 [rows, K], and which rows are within the arithmetic's range, bool [rows]."""
        inside: NDArray[np.bool_] = np.asarray((np.abs(rows) <= _LIMIT).all(axis=1))
        out = np.empty((len(rows), self.model.axis_count))
        block = max(1, _BLOCK // max(1, self.model.classes))
        for start in range(0, len(rows), block):
            part = rows[start : start + block].astype(np.float64)
            part[~inside[start : start + block]] = 0
            part *= FRACTION
            np.rint(part, out=part)
            part -= np.floor(part.sum(axis=1) / self.model.classes)[:, None]
            part -= self.model.mean
            out[start : start + block] = part @ self._analysis
        out *= self.model.analysis_gain
        return out, inside

    def quantise(self, coefficients: NDArray[np.float64], refine: int) -> Symbols:
        """The symbols of coefficients [rows, K] at a refinement of the step."""
        whole = np.rint(np.clip(coefficients * (UNIT / self.step(refine)), -_FAR, _FAR)).astype(np.int64)
        context = self.context(refine)
        follows = (context.weights, context.base, context.limits, context.ends)
        guess = ((np.abs(whole) + UNIT // 4) // UNIT).astype(np.int32)
        symbols = quantise(whole, self._prices, classes_of(guess, *follows), self._bias)
        odd, classes = follow(symbols, *follows)
        fits: NDArray[np.bool_] = np.asarray((np.abs(symbols) <= self.tables.sizes[classes]).all(axis=1))
        # The largest table's last symbol may have been clipped to: such rows are not represented.
        fits &= np.asarray((np.abs(whole) < UNIT * (2 * int(self.tables.sizes.max()) - 4)).all(axis=1))
        return Symbols(symbols, odd, classes, fits)

    def values(self, found: Symbols, refine: int) -> NDArray[np.float32]:
        """Reconstructed coefficients, float32 [rows, K]; the decoder's own arithmetic."""
        magnitude = np.abs(found.symbols)
        key = (found.classes.astype(np.int32) * 2 + found.odd) * 3 + np.clip(magnitude, 1, 3) - 1
        level = (2 * magnitude - found.odd) * 256 + self.model.shift.reshape(-1)[key]
        out: NDArray[np.float32] = level.astype(np.float32) * np.float32(self.step(refine) / 256)
        out *= np.sign(found.symbols)
        return out

    def decode(self, words: NDArray[np.uint32], rows: int, refine: int) -> NDArray[np.float32]:
        """Logits float32 [rows, C] from the entropy coder's words.

        Raises:
            DamagedObjectError: the words do not hold that many rows.
        """
        context = self.context(refine)
        return self.rebuild(decode(words, rows, context, self.tables, self.model.shift, self.step(refine)))

    def rebuild(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [rows, C], centred, from coefficients [rows, K]: the one matrix product."""
        out: NDArray[np.float32] = np.concatenate([values, np.ones((len(values), 1), np.float32)], 1) @ self._synthesis
        return out


@lru_cache(maxsize=16)
def engine(model: TransformModel) -> Engine:
    """The engine of a model; the last few are remembered."""
    return Engine(model)
