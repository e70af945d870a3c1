"""A snapshot of a ledger: one listing, and from it any number of records with few requests.

For whoever looks at many tasks at once. What changes after the listing is not seen, but for records that are sealed
meanwhile, which are found where they went.
"""

from collections.abc import Iterator

from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.objects.base import TEMPORARY, Place

from .record import FOLDER, LEDGER_NODE, Record, parse_record
from .sealed import REMEDY, SEALED_TASK, DamagedSealError, Sealed

_ENDING = ".json"


class Snapshot:
    """What is in a ledger.

    Args:
        place: whose.
        prefix: folder of tasks to look at; all by default.
        before: the sealed part as it was found earlier, if it was; what holds of it is not read again.

    Raises:
        DamagedSealError: its sealed part is damaged; some methods, too, when they come upon it.
    """

    def __init__(self, place: Place, prefix: str = "", before: Sealed | None = None) -> None:
        self.place = place
        self.prefix = prefix.rstrip("/")
        # Listed before the sealed part is read: what is sealed in between is in both, and never in neither.
        folder = f"{FOLDER}/{self.prefix}".rstrip("/")
        self.names = tuple(self.place.list(folder))
        self.singles = frozenset(filter(None, map(task_of, self.names)))
        self.sealed = Sealed.of(place, before)

    def tasks(self, prefix: str = "") -> Iterator[str]:
        """Names of the finished tasks in a folder, sorted; a damaged record's task is among them."""
        prefix = prefix.rstrip("/") or self.prefix
        folder = f"{prefix}/" if prefix else ""
        found = {task for task in self.singles if task.startswith(folder)}
        if self.sealed is not None:
            sealed = set(self.sealed.tasks(prefix))
            # Only where there is or was a sealed record may a single one say that it was dropped.
            doubtful = found & (sealed | self.sealed.dropped)
            found = (found - {task for task in doubtful if self._dropped(task)}) | (sealed - found)
        yield from sorted(found)

    def get(self, task: str) -> Record | None:
        """A task's record, or None.

        Raises:
            DamagedObjectError: it is damaged.
        """
        data = self.raw(task)
        return None if data is None else parsed(self.place, task, data)

    def records(self, prefix: str = "") -> Iterator[Record]:
        """All records in a folder.

        Raises:
            DamagedObjectError: one of them is damaged.
        """
        for task in self.tasks(prefix):
            record = self.get(task)
            if record is not None:
                yield record

    def raw(self, task: str) -> bytes | None:
        """What stands for a task, as bytes: its single record, else its sealed one, else None."""
        if task in self.singles:
            try:
                return self.place.read(name_of(task))
            except MissingObjectError:
                self.sealed = Sealed.of(self.place, self.sealed)
        return self.sealed.raw(task) if self.sealed is not None else None

    def _dropped(self, task: str) -> bool:
        try:
            return self.get(task) is None
        except DamagedObjectError:
            return False


def name_of(task: str) -> str:
    """Name of the object that holds a task's own record."""
    return f"{FOLDER}/{task}{_ENDING}"


def task_of(name: str) -> str | None:
    """The task whose own record an object is; None for any other object."""
    if name == LEDGER_NODE or not name.endswith(_ENDING) or name.rpartition("/")[2].startswith(TEMPORARY):
        return None
    return name[len(FOLDER) + 1 : -len(_ENDING)]


def parsed(place: Place, task: str, data: bytes) -> Record | None:
    """A record from its bytes.

    Raises:
        DamagedObjectError: it is damaged.
    """
    try:
        return parse_record(task, data)
    except ValueError as error:
        if task == SEALED_TASK:
            raise DamagedSealError(f"{place}/{name_of(task)} is damaged ({error}); {REMEDY}") from error
        raise DamagedObjectError(
            f"the ledger record {place}/{name_of(task)} is damaged ({error}); "
            "delete it and run the stage again to redo that task"
        ) from error
