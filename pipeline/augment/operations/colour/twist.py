"""Colour jitter as the first caches have it: brightness, contrast, saturation and hue in one step, by DALI."""

from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stillroom.pipeline.augment.operation import DaliOperation, Draws
from stillroom.pipeline.rng.philox import unit

_Spread = Annotated[float, Field(ge=0.0, le=1.0)]


class Colour(DaliOperation):
    """Its parameters are float32 [n, 4]: factors of brightness, contrast and saturation, and hue in degrees."""

    op: ClassVar[str] = "colour"
    number: ClassVar[int] = 2
    dims: ClassVar[int] = 1

    brightness: _Spread = Field(0.0, description="factor uniform in [1 − x, 1 + x]")
    contrast: _Spread = Field(0.0, description="factor uniform in [1 − x, 1 + x]")
    saturation: _Spread = Field(0.0, description="factor uniform in [1 − x, 1 + x]")
    hue: float = Field(0.0, ge=0.0, le=0.5, description="turn of the colour circle, uniform in [−x, x]")

    @property
    def acts(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue))

    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> npt.NDArray[Any]:  # noqa: ARG002
        spread = np.array([self.brightness, self.contrast, self.saturation, self.hue * 360.0])
        centre = np.array([1.0, 1.0, 1.0, 0.0])
        drawn = np.stack([unit(words) for words in draws.words()], axis=1)
        return (centre + spread * (2.0 * drawn - 1.0)).astype(np.float32)

    def apply(self, image: Any, parameters: Any, fn: Any) -> Any:
        return fn.color_twist(
            image, brightness=parameters[0], contrast=parameters[1], saturation=parameters[2], hue=parameters[3]
        )

    def told(self, drawn: Any) -> str:
        brightness, contrast, saturation, hue = (float(value) for value in drawn)
        return (
            f"brightness × {brightness:.2f}, contrast × {contrast:.2f}, saturation × {saturation:.2f}, hue {hue:+.0f}°"
        )
