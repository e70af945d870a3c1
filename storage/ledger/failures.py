"""Error notes: why a task failed when it was last tried, `ledger/<task>.error` beside where its record would be.

For people. Nothing trusts a note: a task is done when its record is there, whatever a note says, and a note that
cannot be read says only that the task failed. It goes when the task is done; `gc` removes one that was left.
"""

import json
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from stillroom.storage.errors import ConfigError, FingerprintError, MissingObjectError, StillroomError
from stillroom.storage.objects.base import Place
from stillroom.storage.objects.process_id import Process

from .record import FOLDER

ENDING = ".error"
LOG = "STILLROOM_LOG"
"""Variable in which whoever starts a process may name the file that its output goes to."""
_LINES = 20


@dataclass(frozen=True)
class Note:
    """A failure.

    Attributes:
        task: which.
        error: the error's kind.
        message: what it said.
        who: the process, for people.
        when: seconds since 1970, by its clock.
        trace: the last lines of its traceback.
        log: file or URL of its output, where it is known.
    """

    task: str
    error: str = ""
    message: str = "the note of its error cannot be read"
    who: str = ""
    when: float = 0.0
    trace: str = ""
    log: str = ""


def name_of(task: str) -> str:
    """Name of the object that holds a task's note."""
    return f"{FOLDER}/{task}{ENDING}"


def leave(place: Place, task: str, error: Exception, environment: Mapping[str, str] = os.environ) -> None:
    """Note that a task has failed. A note that cannot be written is no error: the task's own comes first.

    Where the run's settings are refused, nothing is noted: that is said at once, and is no failure of a task.
    """
    if isinstance(error, ConfigError | FingerprintError):
        return
    lines = "".join(traceback.format_exception(error)).splitlines()[-_LINES:]
    who, log = str(Process.here()), environment.get(LOG, "")
    note = Note(task, type(error).__name__, str(error), who, time.time(), "\n".join(lines), log)
    with suppress(OSError, StillroomError):
        place.write(name_of(task), json.dumps(asdict(note), indent=1).encode())


def take_away(place: Place, task: str) -> None:
    """The task is done: forget that it failed, if it did."""
    with suppress(OSError, StillroomError):
        if place.size(name_of(task)) is not None:
            place.delete(name_of(task))


def noted(name: str) -> str | None:
    """The task whose note an object is; None for any other object."""
    return name.removeprefix(f"{FOLDER}/").removesuffix(ENDING) if name.endswith(ENDING) else None


def read(place: Place, task: str) -> Note:
    """A task's note."""
    try:
        note = Note(**json.loads(place.read(name_of(task))))
        return note if isinstance(note.when, int | float) and note.task == task else Note(task)
    except (ValueError, TypeError, MissingObjectError):
        return Note(task)


def notes_in(place: Place) -> Iterator[str]:
    """Tasks of all notes under a place."""
    for name in place.list(FOLDER):
        task = noted(name)
        if task is not None:
            yield task
