"""Fits a transform model to a pilot: axes, scale classes, frequency tables, and the coarsest step within the bound.

Everything that is measured is measured out of fold: the pilot is cut in folds, each is coded with the axes of the
others, so that the step holds on rows that were not fitted. The final axes come from the whole pilot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stillroom.storage.codecs.rows.fast_divergence import fast_divergence
from stillroom.storage.codecs.rows.frame import used_rows
from stillroom.storage.errors import ConfigError

from . import frequency_tables
from .contexts import CLASS_COUNT, table_sizes
from .model import TransformModel
from .pca import Axes, centred, fit_axes, fold_of
from .quantizer import FRACTION, Engine, Symbols
from .refit import refit

_FOLDS = 5
# The step is fitted to a little less than the bound, so that most chunks hold it at the first try.
_MARGIN = 0.985
_ROUNDS = 3
# Above so many logits the pilot is measured on a part of its rows, and the decoder is not refitted.
_LARGE = 1 << 23
# From this bound on the decoder is refitted under the KL; below, it would gain next to nothing.
_LOOSE = 0.05


@dataclass(frozen=True)
class _Fold:
    """A fold's rows with the others' axes: rows float32 [n, C], coefficients float64 [n, K]."""

    mine: NDArray[np.bool_]
    rows: NDArray[np.float32]
    axes: Axes
    coefficients: NDArray[np.float64]


def fit(
    pilot: NDArray[np.floating],
    temperatures: Sequence[float] = (1, 2, 5, 10),
    max_kl: float = 0.02,
    groups: NDArray[np.integer] | None = None,
) -> TransformModel:
    """A transform model for logits like the pilot's.

    Args:
        pilot: float [n, C] (or [.., C]); rows of NaN are skipped. A few rows per axis make good axes: 2,000 or more.
        temperatures: softmax temperatures at which the bound shall hold.
        max_kl: the bound on a chunk's mean KL(teacher ‖ decoded), nats times T².
        groups: integer [n]; pilot rows with the same number (views of one sample) are never both fitted and measured.

    Raises:
        ConfigError: the temperatures, the bound or the pilot cannot be used.
        ModelError: pilot rows are not finite.
    """
    if not temperatures or not all(np.isfinite(t) and t > 0 for t in temperatures):
        raise ConfigError(f"cache.temperatures is {list(temperatures)}; temperatures are numbers above 0")
    if not (np.isfinite(max_kl) and max_kl > 0):
        raise ConfigError(f"cache.max_kl is {max_kl}; it is in nats, above 0 (0.02 is a good start)")
    flat = np.asarray(pilot, np.float32).reshape(-1, pilot.shape[-1])
    used = used_rows(flat)
    rows = flat[used]
    if not len(rows) or rows.shape[1] < 1:
        raise ConfigError(f"the pilot has no rows (shape {pilot.shape}); give it logits of a few hundred views")
    rows = np.clip(rows, -4000, 4000)
    fold = fold_of(len(rows), None if groups is None else np.asarray(groups)[used], _FOLDS)
    candidates = [_Fit(rows, fold, tuple(map(float, temperatures)), float(max_kl), t) for t in _metrics(temperatures)]
    models = [(candidate.bits, i, candidate.model) for i, candidate in enumerate(candidates)]
    return min(models, key=lambda entry: entry[:2])[2]


def _metrics(temperatures: Sequence[float]) -> list[float | None]:
    """Metrics worth a try: flat where a high temperature must hold, Fisher where the highest is low."""
    highest = max(temperatures)
    return [None] if highest >= 5 else [None, 2.0 * highest]


class _Fit:
    """One fit under one metric; `model` is the result and `bits` its price per row on the pilot, out of fold."""

    def __init__(
        self,
        rows: NDArray[np.float32],
        fold: NDArray[np.int64],
        temperatures: tuple[float, ...],
        max_kl: float,
        metric: float | None,
        rate_price: float = 0.35,
        bias: float = 0.2,
    ) -> None:
        x = centred(rows)
        final = fit_axes(x, metric)
        self._rows = rows
        self._folds = []
        ids = np.unique(fold) if len(rows) >= 4 * _FOLDS else np.zeros(0, np.int64)
        for index in ids:
            mine = fold == index
            axes = fit_axes(x[~mine], metric)
            self._folds.append(_Fold(mine, rows[mine], axes, (x[mine] - axes.mean) @ axes.analysis.T))
        if len(self._folds) < 2:
            self._folds = [_Fold(np.ones(len(rows), bool), rows, final, (x - final.mean) @ final.analysis.T)]
        most = min([len(final.synthesis)] + [f.coefficients.shape[1] for f in self._folds])
        self._all = np.concatenate([f.coefficients[:, :most] for f in self._folds])
        self._temperatures = temperatures
        self._target = max_kl * _MARGIN
        self._prior = frequency_tables.prior_tables()
        classes = rows.shape[1]
        # A first step: the one whose distortion, spread over all classes, makes half the bound.
        deviation = np.sqrt((self._all**2).mean(axis=0)) if most else np.zeros(0)
        scale = np.sqrt(classes) if metric is None else 1.0
        step = 2 * scale * float(np.sqrt(max_kl / max(1, min(most, 100))))
        blank = TransformModel(
            classes=classes,
            temperatures=temperatures,
            max_kl=max_kl,
            row_kl=max(30 * max_kl, 1e-4),
            step=step,
            rate_price=rate_price,
            bias=bias,
            mean=np.rint(final.mean * FRACTION).astype(np.int32),
            offset=np.rint(final.mean * FRACTION).astype(np.int32),
            axes=np.zeros((0, classes), np.int16),
            axis_step=np.zeros(0),
            analysis=np.zeros((0, classes), np.int16),
            analysis_gain=np.zeros(0),
            weights=np.zeros(0, np.int32),
            base_scale=np.zeros(0, np.int16),
            threshold_count=np.zeros(0, np.int16),
            thresholds=np.zeros(0, np.int64),
            table_size=table_sizes(),
            tables=np.zeros(0, np.uint32),
            shift=np.zeros((CLASS_COUNT, 2, 3), np.int16),
        )
        for attempt in range(_ROUNDS):
            count = int((deviation > 0.5 * step).sum())
            model = self._learn(replace(blank, step=step), count, rounds=3 if attempt == 0 else 2)
            step = self._bisect(model, 4.0 if attempt == 0 else 1.0, 0.03)
        found = self._symbols(Engine(replace(model, step=step)))
        occupied = (found.symbols != 0).mean(axis=0) > 5e-3
        count = int(np.flatnonzero(occupied).max(initial=-1)) + 1
        synthesis, offset = final.synthesis[:count], final.mean
        loose = max_kl >= _LOOSE and count > 0 and len(self._folds) > 1 and rows.size <= _LARGE
        for _ in range(3 if loose else 1):
            model = self._learn(replace(blank, step=step), count, rounds=2)
            if loose:
                self._refit(model, x)
            step = self._bisect(model)
        model = replace(model, step=step)
        self.bits = self._price(model)
        if loose:
            values = _coded(Engine(model), (x - final.mean) @ final.analysis[:count].T)
            synthesis, offset = refit(rows, values, synthesis, offset, temperatures)
        self.model = _with_axes(
            model, replace(final, synthesis=synthesis, offset=offset), count, same=metric is None and not loose
        )

    def _refit(self, model: TransformModel, x: NDArray[np.float64]) -> None:
        """Gives each fold the decoder that the other folds' rows ask for."""
        tools = Engine(model)
        count = model.axis_count
        for i, part in enumerate(self._folds):
            others = ~part.mine
            axes = part.axes
            values = _coded(tools, (x[others] - axes.mean) @ axes.analysis[:count].T)
            synthesis, offset = refit(self._rows[others], values, axes.principal[:count], axes.mean, self._temperatures)
            self._folds[i] = replace(part, axes=replace(axes, synthesis=synthesis, offset=offset))

    def _symbols(self, tools: Engine) -> Symbols:
        return tools.quantise(self._all[:, : tools.model.axis_count], 0)

    def _learn(self, model: TransformModel, axes: int, rounds: int) -> TransformModel:
        """Contexts and tables for that step, in a few rounds of coding the pilot."""
        coefficients = self._all[:, :axes]
        scaled = coefficients / model.step
        rough = np.rint(np.maximum(np.abs(scaled) - 0.25, 0)).astype(np.int32)
        flat = [q[2] for pair in self._prior for q in pair]
        tables = np.concatenate([frequency_tables._whole(p) for p in flat]).astype(np.uint32)
        for _ in range(rounds):
            weights, base, counts, thresholds = frequency_tables.learn_contexts(coefficients, rough, model.step)
            model = replace(
                model,
                axes=np.zeros((axes, model.classes), np.int16),
                axis_step=np.zeros(axes),
                analysis_gain=np.zeros(axes),
                weights=weights,
                base_scale=base,
                threshold_count=counts,
                thresholds=thresholds,
                tables=tables,
            )
            found = self._symbols(Engine(model))
            rough = _levels(found)
            tables = frequency_tables.learn_tables(found.symbols, found.odd, found.classes, self._prior)
        return replace(
            model, tables=tables, shift=frequency_tables.learn_shift(scaled, found.symbols, found.odd, found.classes)
        )

    def _bisect(self, model: TransformModel, reach: float = 1.0, precision: float = 0.004) -> float:
        """The coarsest step with which the out-of-fold KL holds at every temperature."""
        low, high = np.log2(model.step) - reach, np.log2(model.step) + reach
        tools = Engine(model)
        while high - low > precision:
            middle = (low + high) / 2
            if self._loss(tools, float(2**middle)) > self._target:
                high = middle
            else:
                low = middle
        return float(2**low)

    def _loss(self, tools: Engine, step: float) -> float:
        """The largest mean KL over the temperatures, out of fold."""
        axes = tools.model.axis_count
        ratio = tools.model.step / step
        found = tools.quantise(self._all[:, :axes] * ratio, 0)
        values = tools.values(found, 0) / np.float32(ratio)
        sums = np.zeros(len(self._temperatures))
        at = seen = 0
        stride = 1 + self._rows.size // _LARGE
        for part in self._folds:
            synthesis = part.axes.synthesis[:axes].astype(np.float32)
            offset = part.axes.offset.astype(np.float32)
            rows = part.rows[::stride]
            coded = values[at : at + len(part.rows) : stride]
            kl = fast_divergence(rows, coded, partial(_rebuild, synthesis, offset), self._temperatures)
            sums += kl.sum(axis=1)
            at += len(part.rows)
            seen += len(rows)
        return float(sums.max()) / seen

    def _price(self, model: TransformModel) -> float:
        tools = Engine(model)
        found = self._symbols(tools)
        bits = tools.tables.bits[
            found.classes, found.odd, np.minimum(np.abs(found.symbols), tools.tables.bits.shape[2] - 1)
        ]
        return float(bits.sum()) / max(1, len(self._all))


def _coded(tools: Engine, coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
    """Coefficients [n, K] after coding and decoding."""
    return tools.values(tools.quantise(coefficients, 0), 0)


def _levels(found: Symbols) -> NDArray[np.int32]:
    """Magnitudes of the levels, int32 [n, K]."""
    magnitude = np.abs(found.symbols)
    return np.where(magnitude > 0, 2 * magnitude - found.odd, 0).astype(np.int32)


def _rebuild(
    synthesis: NDArray[np.float32], offset: NDArray[np.float32], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    return values @ synthesis + offset


def _with_axes(model: TransformModel, final: Axes, axes: int, same: bool) -> TransformModel:
    """The model with its axes as integers, as fine as the quantiser's own error asks for.

    With `same`, analysis uses the synthesis axes.
    """
    synthesis = final.synthesis[:axes]
    model = replace(model, offset=np.rint(final.offset * FRACTION).astype(np.int32))
    worth = np.maximum(final.variance[:axes], model.step**2)
    energy = (synthesis**2).sum(axis=1) / model.classes if axes else np.zeros(0)
    allowed = 0.003 * 0.25 * model.step**2
    fine = np.sqrt(12 * allowed / worth * energy)
    peak = np.abs(synthesis).max(axis=1, initial=0)
    fine = np.clip(fine, peak / 32000, peak / 3) if axes else fine
    whole = np.rint(synthesis / fine[:, None]).astype(np.int16)
    if same:
        norm = (whole.astype(np.float64) ** 2).sum(axis=1)
        return replace(model, axes=whole, axis_step=fine, analysis_gain=1 / (norm * fine * FRACTION))
    grain = np.abs(final.analysis[:axes]).max(axis=1, initial=0) / 8000
    analysis = np.rint(final.analysis[:axes] / grain[:, None]).astype(np.int16)
    return replace(model, axes=whole, axis_step=fine, analysis=analysis, analysis_gain=grain / FRACTION)
