"""Pace: how fast a stage has been going, from when its last records were written.

Pure counting over times that a place gives; a pause, as between two jobs, ends the stretch that is counted.
"""

import itertools
import statistics
from collections.abc import Sequence

from stillroom.storage.ledger.record import FOLDER
from stillroom.storage.ledger.snapshot import task_of

from .expected_records import Expected

_LAST = 512
_PAUSE = 20.0
"""Times the usual wait between two records; a longer one was a pause."""
_LEAST_PAUSE = 60.0


def pace_of(parts: Sequence[Expected]) -> float | None:
    """Units per second of the last tasks that were finished; None where that cannot be told."""
    finished: list[tuple[float, int]] = []
    for part in parts:
        for name, when in part.place.times(f"{FOLDER}/{part.folder}".rstrip("/")).items():
            units = part.units.get(task_of(name) or "")
            if units:
                finished.append((when, units))
    return pace(sorted(finished)[-_LAST:])


def pace(finished: Sequence[tuple[float, int]]) -> float | None:
    """Units per second.

    Args:
        finished: when, and how many units, oldest first.
    """
    if len(finished) < 2:
        return None
    waits = [later[0] - earlier[0] for earlier, later in itertools.pairwise(finished)]
    pause = max(_LEAST_PAUSE, _PAUSE * statistics.median(waits))
    start = next((place for place in range(len(waits), 0, -1) if waits[place - 1] > pause), 0)
    stretch = finished[start:]
    seconds = stretch[-1][0] - stretch[0][0]
    return sum(units for _, units in stretch[1:]) / seconds if seconds > 0 else None
