"""The errors that stillroom raises for what a user, a disk or a cluster can do wrong.

One small tree: the command line prints any of these without a traceback. Every class has a stable `code` for machines.
A message says what was wrong, the value, and what to do. Our own broken invariants are `assert`s, not these.
"""

import difflib
from collections.abc import Iterable


class StillroomError(Exception):
    """Base of all our errors."""

    code = "stillroom"
    exit_status = 1


class ConfigError(StillroomError):
    """The configuration, or the command's own words, are wrong."""

    code = "config"
    exit_status = 2


class DataError(StillroomError):
    """The images or their labels cannot be used as they are."""

    code = "data"


class ModelError(StillroomError):
    """A model cannot be built, or its weights do not fit it."""

    code = "model"


class StoreError(StillroomError):
    """What is on disk is not what the ledger says was written."""

    code = "store"


class MissingObjectError(StoreError):
    """An object, or the record that vouches for it, is not there."""

    code = "missing"


class UnreachableError(StoreError):
    """An object store does not answer, or refuses: which says nothing of what is in it."""

    code = "unreachable"


class DamagedObjectError(StoreError):
    """An object's size or digest differs from its record."""

    code = "damaged"


class DamagedChunkError(DamagedObjectError):
    """A chunk's bytes are not what its codec wrote. Whoever reads the array adds which object they are of."""


class FingerprintError(StoreError):
    """A run meets data that was made from other inputs.

    Args:
        what: what was compared, such as "cache runs/a/cache".
        field: the dotted name of the first field that differs.
        stored: its value on disk.
        wanted: its value in this run.
        remedy: what the user can do.
    """

    code = "fingerprint"

    def __init__(self, what: str, field: str, stored: object, wanted: object, remedy: str) -> None:
        super().__init__(f"{what} was made with {field} = {stored!r}, this run has {field} = {wanted!r}; {remedy}")
        self.field = field
        self.stored = stored
        self.wanted = wanted
        self._arguments = (what, field, stored, wanted, remedy)

    def __reduce__(self) -> tuple[type["FingerprintError"], tuple[object, ...]]:
        """It comes back from worker processes."""
        return type(self), self._arguments


class ViewMismatchError(StillroomError):
    """A view rendered here is not the view that the teacher saw."""

    code = "view"


def among(name: str, known: Iterable[str]) -> str:
    """What a message says after a name that is unknown: the nearest one, and all that there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"{f'did you mean {near[0]!r}? ' if near else ''}There are {', '.join(names) or 'none'}"
