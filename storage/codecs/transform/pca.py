"""The pilot's principal axes under a metric, found on folds so that what is measured was not what was fitted.

`flat` is the metric of high temperatures (every class counts alike), `fisher` that of T: the mean Fisher information of
the pilot's softmax. It knows nothing of quantisers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_AXES = 768


@dataclass(frozen=True)
class Axes:
    """A linear transform of centred logits.

    Attributes:
        mean: float64 [C].
        offset: float64 [C]; logits = offset + coefficients @ synthesis.
        synthesis: float64 [K, C].
        principal: float64 [K, C], the synthesis before any refit.
        analysis: float64 [K, C]; coefficients = (logits - mean) @ analysis.T; the same array where the metric is flat.
        variance: float64 [K], of the coefficients, falling.
    """

    mean: Floats
    offset: Floats
    synthesis: Floats
    principal: Floats
    analysis: Floats
    variance: Floats


def centred(rows: NDArray[np.float32]) -> Floats:
    """Rows less their mean over the classes, float64."""
    wide = rows.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    return wide


def _principal(x: Floats, most: int) -> tuple[Floats, Floats]:
    """Orthonormal axes [k, C] and variances [k] of rows [n, C] that have no mean."""
    n, classes = x.shape
    if n <= classes:
        values, vectors = np.linalg.eigh(x @ x.T)
        order = np.argsort(-values)[:most]
        values = values[order]
        keep = values > max(values[0], 1e-300) * 1e-10 if len(values) else np.zeros(0, bool)
        axes = (vectors[:, order][:, keep].T @ x) / np.sqrt(values[keep])[:, None]
    else:
        values, vectors = np.linalg.eigh(x.T @ x)
        order = np.argsort(-values)[:most]
        values = values[order]
        keep = values > max(values[0], 1e-300) * 1e-10
        axes = vectors[:, order][:, keep].T
    return np.ascontiguousarray(axes), values[keep] / max(n, 1)


def fit_axes(rows: Floats, temperature: float | None, most: int = MOST_AXES) -> Axes:
    """Principal axes of centred rows [n, C], at most `most`.

    Args:
        rows: centred logits.
        temperature: None for the flat metric, else the T of the Fisher metric.
        most: the most axes to keep.
    """
    mean = rows.mean(axis=0)
    x = rows - mean
    axes, variance = _principal(x, most)
    if temperature is None or not len(axes):
        return Axes(mean, mean, axes, axes, axes, variance)
    p = np.exp((rows - rows.max(axis=1, keepdims=True)) / temperature)
    p /= p.sum(axis=1, keepdims=True)
    inside = p @ axes.T
    metric = (axes * p.mean(axis=0)) @ axes.T - inside.T @ inside / len(p)
    # Classes that hardly ever get probability still count a little: the metric must not be singular.
    metric += np.eye(len(axes)) * (0.02 * np.trace(metric) / len(axes))
    values, vectors = np.linalg.eigh(metric)
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    turned, variance = _principal(x @ axes.T @ root, most)
    back = turned @ inverse @ axes
    return Axes(mean, mean, back, back, turned @ root @ axes, variance)


def fold_of(n: int, groups: NDArray[np.integer] | None, folds: int) -> NDArray[np.int64]:
    """The fold of each pilot row, int64 [n]; rows of one group share a fold."""
    if groups is None:
        return np.arange(n) * folds // max(n, 1)
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.asarray(index, np.int64) * folds // (int(index.max()) + 1)
