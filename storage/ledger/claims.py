"""Claims: of several writers that want the same task, one does it at a time; a dead writer's claim is taken over.

A claim is an object beside the task's record, created where there is none, never rewritten, and deleted when the task
is done. While its writer lives, it counts up in a second object, its beat: were the claim rewritten, a writer that
was stopped in the midst of that would put it back when it wakes. A writer of the same machine that has ended is seen at
once; one of another machine is taken for dead when its beat has not changed for a while, by the watcher's own clock.

Claims save work; they are not what keeps a cache right. A writer that was stopped so long that its claim was taken over
may wake up and write. It then finds that it no longer holds the claim, and compares every object with the record that
is there now: where they differ, it drops the record, and the task is done again (`Claim.settle`).
"""

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace

from stillroom.storage.errors import MissingObjectError, StillroomError
from stillroom.storage.objects.base import Place, temporary_of
from stillroom.storage.objects.process_id import Process

from .ledger import FOLDER, Ledger
from .sealed import SEALED_TASK

BEAT_SECONDS = 20.0
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Holder:
    """Who holds a claim.

    Attributes:
        process: the writer.
        token: of this one claim; no two have the same.
        since: seconds since 1970, by the writer's clock, when it was taken.
        renewed: likewise, when it last gave a sign of life.
        count: how often it has.
    """

    process: Process
    token: str
    since: float
    renewed: float = 0.0
    count: int = 0

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Holder":
        fields = json.loads(data)
        return cls(Process(**fields.pop("process")), **fields)

    def __str__(self) -> str:
        return f"{self.process}, since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.since))}"


class Claim:
    """A claim that this process took.

    Args:
        place: whose ledger the task's record goes to.
        name: of the claim.
        holder: what was written.
        beat: seconds between its signs of life.
    """

    def __init__(self, place: Place, name: str, holder: Holder, beat: float) -> None:
        self.place = place
        self.name = name
        self.holder = holder
        self._written = holder.to_json()
        self._beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"claim {name}", daemon=True)
        self._thread.start()

    def held(self) -> bool:
        """Whether nobody has taken it over, since it was taken. It never comes back."""
        found = holder_of(self.place, self.name)
        return found is not None and found.token == self.holder.token

    def release(self) -> None:
        """Give it back, if it is still ours."""
        self._over.set()
        self._thread.join()
        if self.holder.count and self.held():
            self.place.delete(Ledger(self.place).beat(self.name))
        self.place.delete(Ledger(self.place).claim(self.name), self._written)

    def settle(self, task: str) -> bool:
        """After the task's record was written: whether what is there now is one writer's work.

        Where the claim was held to the end, it is. Else every object is compared with the record; if one differs, two
        writers' objects are mixed, and the record is dropped.
        """
        return self.held() or confirm(self.place, task)

    def _renew(self) -> None:
        while not self._over.wait(self._beat):
            self.holder = replace(self.holder, renewed=time.time(), count=self.holder.count + 1)
            try:
                if not self.held():
                    return
                self.place.write(Ledger(self.place).beat(self.name), self.holder.to_json())
            except (OSError, StillroomError):  # it is tried again; if all else fails, `settle` finds out
                continue


@dataclass
class Claims:
    """The claims that this process takes, and those of others that it watches.

    Args:
        beat: seconds between signs of life of ours.
        patience: seconds without one after which another machine's claim is taken over.
    """

    beat: float = BEAT_SECONDS
    patience: float = PATIENCE_SECONDS
    _watched: dict[tuple[str, str], tuple[str, int, float]] = field(default_factory=dict)

    @contextmanager
    def taken(self, place: Place, name: str) -> Iterator["Claim | Holder"]:
        """Our claim, given back at the end; or who holds it now."""
        claim = self.take(place, name)
        try:
            yield claim
        finally:
            if isinstance(claim, Claim):
                claim.release()

    def take(self, place: Place, name: str) -> "Claim | Holder":
        """Our claim, or who holds it now."""
        mine = Holder(Process.here(), secrets.token_hex(8), time.time(), time.time())
        while not place.create(Ledger(place).claim(name), mine.to_json()):
            other = holder_of(place, name)
            if other is None:
                continue
            if not self._dead(place, name, other):
                return other
            with suppress(MissingObjectError):
                claim = place.read(Ledger(place).claim(name))
                if holder_of(place, name) == other:
                    place.delete(Ledger(place).claim(name), claim)
        # Whoever seals the ledger looks for claims after taking this one: one of the two sees the other.
        sealer = holder_of(place, SEALED_TASK) if name != SEALED_TASK else None
        if sealer is not None and not self._dead(place, SEALED_TASK, sealer):
            place.delete(Ledger(place).claim(name), mine.to_json())
            return sealer
        return Claim(place, name, mine, self.beat)

    def _dead(self, place: Place, name: str, other: Holder) -> bool:
        if other.process.ended():
            return True
        now = time.monotonic()
        token, count, since = self._watched.get((place.url, name), ("", 0, now))
        if (token, count) != (other.token, other.count):
            since = now
        self._watched[place.url, name] = (other.token, other.count, since)
        return now - since > self.patience


def holder_of(place: Place, name: str) -> Holder | None:
    """Who holds a claim, or None.

    A claim that cannot be read counts as that of a machine that cannot be seen.
    """
    holder = _read(place, Ledger(place).claim(name))
    beat = _read(place, Ledger(place).beat(name)) if holder is not None else None
    return beat if beat is not None and holder is not None and beat.token == holder.token else holder


def _read(place: Place, name: str) -> Holder | None:
    try:
        return Holder.from_json(place.read(name))
    except MissingObjectError:
        return None
    except (ValueError, TypeError, AttributeError, KeyError):
        return Holder(_NOBODY, "", 0.0)


def claims_in(place: Place) -> dict[str, Holder]:
    """Every claim under a place, by name, with its holder."""
    found = {}
    for path in place.list(FOLDER):
        if path.endswith(".claim") and temporary_of(path) is None:
            name = path.removeprefix(f"{FOLDER}/").removesuffix(".claim")
            holder = holder_of(place, name)
            if holder is not None:
                found[name] = holder
    return found


def beats_in(place: Place) -> Iterator[str]:
    """Names of claims that left a beat behind and are gone: of writers that were stopped, and woke up too late."""
    for path in place.list(FOLDER):
        if path.endswith(".beat") and temporary_of(path) is None:
            name = path.removeprefix(f"{FOLDER}/").removesuffix(".beat")
            if place.size(Ledger(place).claim(name)) is None:
                yield name


def confirm(place: Place, task: str) -> bool:
    """Compare every object of a task with its record; drop the record where one differs, or where there is none.

    Returns:
        Whether the task is done.
    """
    ledger = Ledger(place)
    record = ledger.get(task)
    if record is None:
        return False
    if all(item.matches(place, name) for name, item in record.objects.items()):
        return True
    ledger.drop(task)
    return False


_NOBODY = Process("nobody", "", 0, 0)
