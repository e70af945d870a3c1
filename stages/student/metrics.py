"""A student's figures as it trains: JSON lines for machines, TensorBoard for people."""

import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from stillroom.stages.run.artifacts import METRICS as METRICS
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.objects.base import Place

_FLUSH_SECONDS = 15.0


class Metrics:
    """One student's figures, a line for each event.

    Args:
        place: the student's.
        step: where the student goes on.
        lines: what was noted before that, from its checkpoint: the file has no digest until the student is finished.
    """

    def __init__(self, place: Place, step: int, lines: Sequence[dict[str, Any]] = ()) -> None:
        self._place = place
        self._lines = list(lines)
        folder = place.local("tensorboard")
        self._board = SummaryWriter(str(folder), purge_step=step) if folder is not None else None
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        if self._board is not None:
            self._board.close()

    def log(self, event: str, step: int, **figures: float | None) -> None:
        """Note figures at a step, counted in finished steps."""
        known = {name: value for name, value in figures.items() if value is not None}
        self._lines.append({"event": event, "step": step, **known})
        if self._board is not None:
            for name, value in known.items():
                self._board.add_scalar(f"{event}/{name}", value, step)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def at(self, event: str, step: int) -> dict[str, float]:
        """The figures noted for an event at a step; none where there are none."""
        lines = [line for line in self._lines if line["event"] == event and line["step"] == step]
        return {name: value for line in lines for name, value in line.items() if name not in ("event", "step")}

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All that is noted, oldest first."""
        return self._lines

    def flush(self) -> None:
        """Write what is noted."""
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        self._place.write(METRICS, text.encode())
        self._flushed = time.monotonic()


def read_metrics(place: Place) -> list[dict[str, Any]]:
    """A student's lines, oldest first; none where it has not begun."""
    try:
        text = place.read(METRICS).decode(errors="replace")
    except MissingObjectError:
        return []
    try:
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines:
            if not isinstance(line["event"], str) or not isinstance(line["step"], int):
                raise ValueError(f"{line} is no event at a step")
        return lines
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{place}/{METRICS} is damaged ({error}); delete it, the student does without"
        ) from error
