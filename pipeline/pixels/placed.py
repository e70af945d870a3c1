"""Steps at a size: what `augment.steps` says in shares of the side becomes whole pixels and filters, on the host."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.steps import NEAREST, ONE, Kind, Steps, packed
from stillroom.pipeline.rng.portable_math import exp

BLUR_BITS = 14
"""Weights of a filter add up to two to the power of this."""
_REACH = 4.0
"""Sigmas that a filter reaches to either side."""


@dataclass(frozen=True)
class Placed:
    """Steps of n views of one size.

    Attributes:
        steps: int32 [n, k, 8], as `augment.steps` has them, but: offsets of AFFINE in 1/65536 of a pixel; a SHIFT is
            an AFFINE; BLUR names a row of `filters`; boxes of ERASE are top, left, bottom, right in whole pixels.
        filters: int32 [m, r + 1]: weights of the middle pixel and of those on either side.
    """

    steps: Steps
    filters: npt.NDArray[np.int32]


def placed(steps: Steps, size: int) -> Placed:
    """Steps at a size.

    Args:
        steps: int32 [n, k, 8].
        size: height and width of the views in pixels.
    """
    found = steps.copy()
    kinds = steps[:, :, 0]
    _place_affine(found, kinds == Kind.AFFINE, size)
    _place_shifts(found, kinds == Kind.SHIFT, size)
    _place_boxes(found, kinds == Kind.ERASE, size)
    blurred = kinds == Kind.BLUR
    sigmas, places = np.unique(steps[blurred][:, 1], return_inverse=True)
    found[blurred, 1] = places
    return Placed(found, _filters(sigmas, size))


def _place_affine(found: Steps, rows: npt.NDArray[np.bool_], size: int) -> None:
    for column in (3, 6):
        found[rows, column] = np.clip(found[rows, column].astype(np.int64) * size, -(2**31) + 1, 2**31 - 1)


def _place_shifts(found: Steps, rows: npt.NDArray[np.bool_], size: int) -> None:
    down, right, padding, fill = (found[rows, column].astype(np.int64) for column in range(1, 5))
    most = (padding * size + ONE // 2) // ONE
    offsets = [((draw * (2 * most + 1)) // ONE - most) * ONE for draw in (right, down)]
    for column, value in enumerate((ONE, 0, offsets[0], 0, ONE, offsets[1]), 1):
        found[rows, column] = value
    found[rows, 0], found[rows, 7] = Kind.AFFINE, packed(NEAREST, (0, 0, 0)) | fill


def _place_boxes(found: Steps, rows: npt.NDArray[np.bool_], size: int) -> None:
    top, left, height, width = (found[rows, column].astype(np.int64) for column in range(1, 5))
    for column, edge in enumerate((top, left, top + height, left + width), 1):
        found[rows, column] = (edge * size + ONE // 2) // ONE


def _filters(sigmas: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int32]:
    """Half filters: exp(−x² / 2σ²) as far as four sigmas, rounded; the middle takes what rounding left over."""
    pixels = sigmas.astype(np.float64) * size / ONE
    reach = np.minimum(np.ceil(_REACH * pixels), size - 1)
    far = np.arange(int(reach.max(initial=0)) + 1, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        power = np.where(pixels[:, None] > 0, -(far**2) / (2.0 * pixels[:, None] ** 2), -32.0)
    weights = exp(np.maximum(power, -32.0)) * (far <= reach[:, None])
    weights[:, 0] = 1.0
    whole = weights[:, :1] + 2.0 * weights[:, 1:].sum(axis=1, keepdims=True)
    found: npt.NDArray[np.int32] = np.rint(weights / whole * 2.0**BLUR_BITS).astype(np.int32)
    found[:, 0] = 2**BLUR_BITS - 2 * found[:, 1:].sum(axis=1)
    return found
