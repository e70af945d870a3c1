"""Progress for people: a bar with rate and time left on a terminal, plain lines elsewhere. Never on standard output."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console
from rich.text import Text

_LINE_SECONDS = 10.0


class Progress(ABC):
    """How far a stage is, and who is at it."""

    _crew = 0

    @contextmanager
    def stage(self, name: str, unit: str, total: int) -> Iterator["Progress"]:
        """Show a stage of `total` units until the context ends."""
        self._begin(name, unit, total)
        try:
            yield self
        finally:
            self._end()
            self._crew = 0

    @abstractmethod
    def advance(self, units: int) -> None:
        """That many more are done."""

    def crew(self, count: int) -> None:
        """So many workers are at it now."""
        self._crew = count

    @property
    def _by(self) -> str:
        """Who is at it, where that is said."""
        return f"{self._crew} worker{'s' * (self._crew != 1)}" if self._crew else ""

    @abstractmethod
    def _begin(self, name: str, unit: str, total: int) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 most kinds open nothing
        """Give back what was opened."""


def make_progress() -> Progress:
    """The kind that suits standard error."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class NoProgress(Progress):
    """Shows nothing."""

    def advance(self, units: int) -> None:
        pass

    def _begin(self, name: str, unit: str, total: int) -> None:
        pass

    def _end(self) -> None:
        pass


class BarProgress(Progress):
    """A bar on a terminal."""

    def __init__(self) -> None:
        # A descriptor of its own: ingest silences the codecs' C code on descriptor 2 while it decodes.
        self._file = os.fdopen(os.dup(2), "w")
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description:8}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[unit]}"),
            _Rate(),
            rich.progress.TextColumn("{task.fields[crew]}"),
            rich.progress.TimeRemainingColumn(),
            console=Console(file=self._file, force_terminal=True),
            transient=True,
        )
        self._task = rich.progress.TaskID(0)

    def close(self) -> None:
        self._file.close()

    def advance(self, units: int) -> None:
        self._bars.advance(self._task, units)

    def crew(self, count: int) -> None:
        super().crew(count)
        self._bars.update(self._task, crew=self._by)

    def _begin(self, name: str, unit: str, total: int) -> None:
        self._bars.start()
        self._task = self._bars.add_task(name, total=total or None, unit=unit, crew="")

    def _end(self) -> None:
        self._bars.remove_task(self._task)
        self._bars.stop()


class _Rate(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


class LineProgress(Progress):
    """A plain line every few seconds."""

    def _begin(self, name: str, unit: str, total: int) -> None:
        self._name, self._unit, self._total = name, unit, total
        self._done = 0
        self._started = self._said = time.monotonic()

    def advance(self, units: int) -> None:
        self._done += units
        now = time.monotonic()
        if now - self._said >= _LINE_SECONDS and self._done:
            self._said = now
            rate = self._done / (now - self._started)
            left = max(0, self._total - self._done) / rate
            of = f" of {self._total:,}" if self._total else ""
            by = f" by {self._by}" if self._by else ""
            print(
                f"{self._name}: {self._done:,}{of} {self._unit}, {rate:,.0f}/s{by}, {duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def _end(self) -> None:
        pass


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
