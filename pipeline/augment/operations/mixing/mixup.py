"""Mixup: function matching (2106.05237) where λ is uniform, as in the paper; else λ from a symmetric Beta."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.pipeline.augment.mixing import PairMixing
from stillroom.pipeline.augment.operation import Draws

from .beta import symmetric_beta


class Mixup(PairMixing):
    """Adds two views: λ·a + (1 − λ)·b. Each view of a pair has a λ of its own, from its own seed."""

    op: ClassVar[str] = "mixup"
    number: ClassVar[int] = 4
    source: ClassVar[str] = "Zhang et al., 1710.09412; function matching, 2106.05237"

    alpha: float = Field(1.0, gt=0.0, le=100.0, description="λ is drawn from Beta(alpha, alpha); 1: uniform")

    def draw(self, draws: Draws) -> tuple[npt.NDArray[np.float32], None]:
        if self.alpha == 1.0:
            # 24 bits are what float32 holds, so that λ and 1 − λ are both exact.
            return (draws.words()[0] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24), None
        return np.floor(symmetric_beta(draws, self.alpha) * 2.0**24).astype(np.float32) * np.float32(2.0**-24), None
