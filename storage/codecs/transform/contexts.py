"""Which frequency table codes a coefficient: a scale class, read off the energy of the row's coefficients before it.

Rows differ in how far they are from the mean; where a row's first coefficients are large, so will the later ones be.
Classes lie a quarter octave apart, so a finer step shifts every class by a constant and needs no new tables. Integer
throughout. It knows nothing of logits.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Self

import numpy as np
from numpy.typing import NDArray

PER_OCTAVE = 4
# The class whose scale is one step.
UNIT_CLASS = 12
CLASS_COUNT = UNIT_CLASS + PER_OCTAVE * 8 + 2
# Steps may be refined by 64ths of an octave.
REFINE_PER_OCTAVE = 64
MAX_REFINE = 6 * REFINE_PER_OCTAVE
TOTAL_BITS = 20
TOTAL = 1 << TOTAL_BITS


def _powers(bits: int = 120) -> list[int]:
    """2**(i / 64) for i = 0 … 64 in fixed point, by integers alone."""
    root = 2 << bits
    for _ in range(6):
        root = isqrt(root << bits)
    out = [1 << bits]
    for _ in range(REFINE_PER_OCTAVE - 1):
        out.append(out[-1] * root >> bits)
    return [*out, 2 << bits]


_POWERS = _powers()


def step_ratio(refine: int) -> float:
    """2**(-refine / 64), correctly rounded from integers."""
    octaves, part = divmod(refine, REFINE_PER_OCTAVE)
    return _POWERS[REFINE_PER_OCTAVE - part] / (_POWERS[-1] << octaves)


def table_sizes() -> NDArray[np.int32]:
    """The largest symbol magnitude of each class, int32 [CLASS_COUNT]; what lies beyond is stored exactly."""
    sizes = [int(6 * 2 ** ((c - UNIT_CLASS) / PER_OCTAVE)) + 6 for c in range(CLASS_COUNT)]
    return np.array(sizes, np.int32)


def scale_of(index: NDArray[np.integer] | int) -> NDArray[np.float64]:
    """The scale that a class stands for, in steps."""
    return np.exp2((np.asarray(index) - UNIT_CLASS) / PER_OCTAVE)


@dataclass(frozen=True)
class ScaleContext:
    """The classes of each axis at one refinement of the step.

    Attributes:
        weights: int64 [K], what a level adds to the row's energy.
        base: int64 [K], the class below the first limit.
        limits: int64, the energies that raise the class by one, axis after axis.
        ends: int64 [K + 1], where each axis' limits begin, and the end.
    """

    weights: NDArray[np.int64]
    base: NDArray[np.int64]
    limits: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def refined(
        cls,
        weights: NDArray[np.int32],
        base_scale: NDArray[np.int16],
        threshold_count: NDArray[np.int16],
        thresholds: NDArray[np.int64],
        refine: int,
    ) -> Self:
        """The classes where the step is 2**(-refine / 64) of the model's."""
        octaves, part = divmod(refine, REFINE_PER_OCTAVE)
        scaled = (thresholds * (_POWERS[part] >> 90) >> 30) << octaves
        ends = np.concatenate([[0], np.cumsum(threshold_count.astype(np.int64))]).astype(np.int64)
        base = np.clip(base_scale.astype(np.int64) + (refine + 8) // 16, 0, CLASS_COUNT - 1)
        return cls(weights.astype(np.int64), base, scaled, ends)
