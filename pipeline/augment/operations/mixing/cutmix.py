"""CutMix: a box of a view is its partner's."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.pipeline.augment.mixing import PairMixing
from stillroom.pipeline.augment.operation import Draws
from stillroom.pipeline.augment.steps import fixed

from .beta import symmetric_beta


class CutMix(PairMixing):
    """Pastes a box of the partner: of area 1 − λ about a uniform centre, cut off at the edges.

    Labels go by the pixels that it covers.
    """

    op: ClassVar[str] = "cutmix"
    number: ClassVar[int] = 24
    source: ClassVar[str] = "Yun et al., 1905.04899"

    alpha: float = Field(1.0, gt=0.0, le=100.0, description="λ is drawn from Beta(alpha, alpha); 1: uniform")

    def draw(self, draws: Draws) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        half = 0.5 * np.sqrt(1.0 - symmetric_beta(draws, self.alpha))
        down, right, _, _ = draws.units()
        box = np.stack([down - half, right - half, down + half, right + half], axis=1)
        return np.ones(len(draws), np.float32), fixed(np.clip(box, 0.0, 1.0))
