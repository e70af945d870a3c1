"""A line of the table of faults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What one experiment saw.

    Attributes:
        test: what was done.
        figure: what is promised of it.
        seen: how often it was kept.
        of: of how many times.
        notes: what else there is to say.
    """

    test: str
    figure: str
    seen: int
    of: int
    notes: str = ""

    @property
    def ok(self) -> bool:
        return self.seen == self.of
