"""The horizontal flip of half of the views."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.pipeline.augment.operation import DaliOperation, Draws
from stillroom.pipeline.augment.steps import Kind, Steps, step


class Flip(DaliOperation):
    """Its parameter is int32 [n]: 1 where the view is mirrored left to right."""

    op: ClassVar[str] = "flip"
    number: ClassVar[int] = 1
    dtype: ClassVar[str] = "int32"

    flip: bool = Field(True, description="mirror half of the views")

    @property
    def acts(self) -> bool:
        return self.flip

    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> npt.NDArray[Any]:  # noqa: ARG002
        return (draws.words()[0] >> np.uint32(31)).astype(np.int32)

    def as_steps(self, drawn: npt.NDArray[Any]) -> Steps:
        steps = step(Kind.MIRROR, len(drawn), 1)
        steps[drawn == 0] = 0
        return steps

    def apply(self, image: Any, parameters: Any, fn: Any) -> Any:
        return fn.flip(image, horizontal=parameters)

    def told(self, drawn: Any) -> str:
        return "mirrored" if drawn else ""
