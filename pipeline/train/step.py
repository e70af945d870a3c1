"""What a training step did: figures that may still be on their way from the device.

On a CPU they are there when the step returns. On a GPU the host queues the next step meanwhile, and waits for nobody.
"""

import math

from stillroom.pipeline.device.streams import Arrival


class Step:
    """What one step did, over all ranks. Asking for a figure that is on its way waits for it.

    Args:
        number: of the step, from 0.
        rate: learning rate.
        figures: float64 [3]: loss, proved views, gradient norm.
    """

    def __init__(self, number: int, rate: float, figures: Arrival) -> None:
        self.number, self.rate = number, rate
        self._figures = figures
        self._known: tuple[float, float, float] | None = None

    @property
    def late(self) -> bool:
        """Whether its figures may be on their way still."""
        return self._known is None and self._figures.late

    @property
    def loss(self) -> float:
        """Mean over the global batch, in nats."""
        return self._get()[0]

    @property
    def proved(self) -> int:
        """Views that were compared with a teacher's digests."""
        return int(self._get()[1])

    @property
    def gradient(self) -> float:
        """Global norm before clipping."""
        return self._get()[2]

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are; the weights were changed only then."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient)

    def _get(self) -> tuple[float, float, float]:
        if self._known is None:
            loss, proved, gradient = self._figures.get().tolist()
            self._known = loss, proved, gradient
        return self._known
