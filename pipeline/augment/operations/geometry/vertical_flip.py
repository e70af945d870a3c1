"""The vertical flip, for images that have no upper side: microscopy, satellites, histology."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.pipeline.augment.operation import DaliOperation, Draws, Probability
from stillroom.pipeline.augment.steps import Kind, Steps, step


class VerticalFlip(DaliOperation):
    """Turns views upside down. Its parameter is int32 [n]: 1 where it does."""

    op: ClassVar[str] = "vertical_flip"
    number: ClassVar[int] = 5
    dtype: ClassVar[str] = "int32"
    source: ClassVar[str] = "torchvision's RandomVerticalFlip"

    p: Probability = Field(0.5, description="probability that it acts on a view")

    @property
    def acts(self) -> bool:
        return self.p > 0.0

    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> npt.NDArray[Any]:  # noqa: ARG002
        return (draws.units()[0] < self.p).astype(np.int32)

    def as_steps(self, drawn: npt.NDArray[Any]) -> Steps:
        steps = step(Kind.MIRROR, len(drawn), 2)
        steps[drawn == 0] = 0
        return steps

    def apply(self, image: Any, parameters: Any, fn: Any) -> Any:
        return fn.flip(image, horizontal=0, vertical=parameters)

    def told(self, drawn: Any) -> str:
        return "upside down" if drawn else ""
