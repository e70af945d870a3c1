"""The transform codec's arithmetic: logits to symbols to logits, for one model.

Rotation and mean are integer (exact in doubles, whatever the order of summation), everything after it element-wise, so
the same logits give the same symbols on every machine. Decoding is one matrix product in float32.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from . import trellis
from .entropy import SymbolTables
from .model import TransformModel
from .scales import MAX_REFINE, REFINE_PER_OCTAVE, ScaleContext

FRACTION = 1024
# Beyond ±4096 a row is stored exactly: 2**22 (logit) · 2**15 (axis) leaves the sum below 2**53 for any real row.
_LIMIT = 4096.0
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Symbols:
    """Quantised rows.

    Attributes:
        symbols: int32 [rows, K].
        odd: uint8 [rows, K], the quantiser in force.
        classes: int64 [rows, K], scale classes.
        fits: bool [rows], whether every symbol has a place in its table.
    """

    symbols: NDArray[np.int32]
    odd: NDArray[np.uint8]
    classes: NDArray[np.int64]
    fits: NDArray[np.bool_]


class Engine:
    """A model made ready for use; holds derived arrays only."""

    def __init__(self, model: TransformModel) -> None:
        self.model = model
        self.tables = SymbolTables.build(model.table_size, model.tables)
        analysis = model.analysis if len(model.analysis) else model.axes
        self._analysis = np.ascontiguousarray(analysis.T.astype(np.float64))
        self._synthesis = (model.axes * model.axis_step[:, None]).astype(np.float32)
        self._mean = (model.mean / FRACTION).astype(np.float32)
        self._prices = (self.tables.bits * model.rate_price).astype(np.float32)
        self._contexts: dict[int, ScaleContext] = {}

    def context(self, refine: int) -> ScaleContext:
        """Scale classes at a step of 2**(-refine / 16) of the model's."""
        if refine not in self._contexts:
            m = self.model
            self._contexts[refine] = ScaleContext.refined(
                m.weights, m.base_scale, m.threshold_count, m.thresholds, refine
            )
        return self._contexts[refine]

    def step(self, refine: int) -> float:
        """The quantiser's step at that refinement."""
        return float(self.model.step * 2.0 ** (-refine / REFINE_PER_OCTAVE))

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
        scaled = (coefficients * (1 / self.step(refine))).astype(np.float32)
        np.clip(scaled, -(2.0**20), 2.0**20, out=scaled)
        context = self.context(refine)
        guess = np.rint(np.maximum(np.abs(scaled) - np.float32(0.25), 0)).astype(np.int32)
        symbols = trellis.quantise(scaled, self._prices, context.classes(guess), self.model.bias)
        odd = trellis.walk(symbols)
        classes = context.classes(np.abs(trellis.levels(symbols, odd)))
        magnitude = np.abs(symbols)
        fits: NDArray[np.bool_] = np.asarray((magnitude <= self.tables.sizes[classes]).all(axis=1))
        # The largest table's last symbol may have been clipped to: such rows are not represented.
        fits &= (np.abs(scaled) < 2 * int(self.tables.sizes.max()) - 2).all(axis=1)
        return Symbols(symbols, odd, classes, fits)

    def values(
        self, symbols: NDArray[np.int32], odd: NDArray[np.integer], classes: NDArray[np.integer], refine: int
    ) -> NDArray[np.float32]:
        """Reconstructed coefficients, float32, of the shape of the symbols."""
        magnitude = np.abs(symbols)
        moved = self.model.shift.reshape(-1)[((classes.astype(np.int32) * 2 + odd) * 3) + np.clip(magnitude, 1, 3) - 1]
        level = (2 * magnitude - odd) * np.float32(256) + moved
        out = np.copysign(level.astype(np.float32) * np.float32(self.step(refine) / 256), symbols)
        return np.where(magnitude > 0, out, np.float32(0)).astype(np.float32)

    def rebuild(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [rows, C], centred, from coefficients [rows, K]: the one matrix product."""
        out: NDArray[np.float32] = values @ self._synthesis
        out += self._mean
        return out


def finest() -> int:
    """The last refinement of the step."""
    return MAX_REFINE


@lru_cache(maxsize=16)
def engine(model: TransformModel) -> Engine:
    """The engine of a model; the last few are remembered."""
    return Engine(model)
