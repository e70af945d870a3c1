"""One line of the table that the trials of faults print."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What a trial saw.

    Attributes:
        test: what was done.
        figure: what is asked for.
        seen: how often it held.
        of: how often it was tried.
        notes: more figures, for people.
    """

    test: str
    figure: str
    seen: int
    of: int
    notes: str = ""

    @property
    def ok(self) -> bool:
        """What was never tried has not held."""
        return 0 < self.of == self.seen
