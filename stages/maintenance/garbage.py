"""Garbage: what killed writers left behind. Nothing that a record lists is ever removed."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.places import RunLocation, holdings
from stillroom.storage.cache.sealing import left_over
from stillroom.storage.errors import StillroomError, UnreachableError
from stillroom.storage.ledger import failures
from stillroom.storage.ledger.claims import Claim, Claims, beats_in, claims_in, holder_of
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.ledger.sealed import SEALED_TASK, DamagedSealError
from stillroom.storage.objects.base import temporary_of, temporary_root

_ABANDONED_SECONDS = 24 * 3600.0
"""Writers on other machines cannot be seen; what they have not touched for a day is nobody's."""


@dataclass(frozen=True)
class Leftover:
    """An object that no record lists.

    Attributes:
        place: name of the holding.
        name: the object's.
        size: bytes.
        kept: why it is not removed; empty where it is.
    """

    place: str
    name: str
    size: int
    kept: str = ""


def collect(config: Config, *, dry_run: bool = False) -> Iterator[Leftover]:
    """Find what was left, and remove it as it is yielded.

    A temporary file goes when the process that wrote it has ended, or after a day where it cannot be seen; an object
    that no record lists, when nobody has the task that writes it in hand; so does a dead writer's claim.

    Args:
        config: of the run.
        dry_run: remove nothing.
    """
    claims = Claims()
    for holding in holdings(config):
        yield from _claims(holding, dry_run=dry_run)
        yield from _notes(holding, dry_run=dry_run)
        yield from _temporaries(holding, dry_run=dry_run)
        yield from _sealed(holding, claims, dry_run=dry_run)
        yield from _unlisted(holding, claims, dry_run=dry_run)


def _claims(holding: RunLocation, *, dry_run: bool) -> Iterator[Leftover]:
    ledger = Ledger(holding.place)
    for claim, holder in claims_in(holding.place).items():
        name = ledger.claim(claim)
        size = holding.place.size(name) or 0
        if not holder.process.ended() and time.time() - holder.renewed < _ABANDONED_SECONDS:
            yield Leftover(holding.name, name, size, f"claimed by {holder}")
        elif holder_of(holding.place, claim) == holder:
            if not dry_run:
                holding.place.delete(name)
            yield Leftover(holding.name, name, size)
    for claim in list(beats_in(holding.place)):
        name = ledger.beat(claim)
        size = holding.place.size(name) or 0
        if not dry_run:
            holding.place.delete(name)
        yield Leftover(holding.name, name, size)


def _notes(holding: RunLocation, *, dry_run: bool) -> Iterator[Leftover]:
    """Notes of errors on tasks that were done since, by writers who were killed before they could take them away."""
    ledger = Ledger(holding.place)
    for task in list(failures.notes_in(holding.place)):
        if ledger.has(task):
            name = failures.name_of(task)
            size = holding.place.size(name) or 0
            if not dry_run:
                holding.place.delete(name)
            yield Leftover(holding.name, name, size)


def _temporaries(holding: RunLocation, *, dry_run: bool) -> Iterator[Leftover]:
    """Files that were not finished, and the scratch folders of commands."""
    found: dict[str, list[str]] = {}
    for name in holding.names():
        if temporary_of(name) is not None and (root := temporary_root(name)) is not None:
            found.setdefault(root, []).append(name)
    for root, names in found.items():
        sizes = [size for name in names if (size := holding.place.size(name)) is not None]
        if not sizes:
            continue  # gone meanwhile
        writer = temporary_of(root)
        assert writer is not None
        if not writer.ended() and _age(holding, root, names) < _ABANDONED_SECONDS:
            yield Leftover(holding.name, root, sum(sizes), "its writer may still run; it goes when it is a day old")
            continue
        if not dry_run:
            if names == [root]:
                holding.place.delete(root)
            else:
                holding.place.delete_folder(root)
        yield Leftover(holding.name, root, sum(sizes))


def _age(holding: RunLocation, root: str, names: Sequence[str]) -> float:
    """Seconds since a temporary file, or anything in a scratch folder, was written; 0 where that is not known."""
    times = holding.place.times(root.rpartition("/")[0] if names == [root] else root)
    written = [times[name] for name in names if name in times]
    return time.time() - max(written) if written else 0.0


def _sealed(holding: RunLocation, claims: Claims, *, dry_run: bool) -> Iterator[Leftover]:
    """What was sealed, by a process that was killed before it could remove what it had sealed."""
    try:
        sealed = Ledger(holding.place).sealed()
        names = list(left_over(holding.place, sealed)) if sealed is not None else []
        if not names:
            return
        with claims.taken(holding.place, SEALED_TASK) as taken:
            if isinstance(taken, Claim) and len(claims_in(holding.place)) == 1:
                sealed = Ledger(holding.place).sealed()
                for name in left_over(holding.place, sealed) if sealed is not None else ():
                    size = holding.place.size(name) or 0
                    if not dry_run:
                        holding.place.delete(name)
                    yield Leftover(holding.name, name, size)
    except DamagedSealError:
        return  # `verify` says so


def _unlisted(holding: RunLocation, claims: Claims, *, dry_run: bool) -> Iterator[Leftover]:
    ledger = Ledger(holding.place)
    names = list(holding.names())
    try:
        listed = frozenset(name for record in ledger.records() for name in record.objects)
    except UnreachableError:
        raise
    except StillroomError as error:
        for name in holding.unlisted(iter(names), frozenset()):
            yield Leftover(holding.name, name, holding.place.size(name) or 0, f"a record is damaged: {error}")
        return
    for name in holding.unlisted(iter(names), listed):
        size = holding.place.size(name) or 0
        claim = holding.claim(name)
        assert claim is not None
        with claims.taken(holding.place, claim) as taken:
            if not isinstance(taken, Claim):
                yield Leftover(holding.name, name, size, f"being written by {taken}")
                continue
            # Its task may have been finished since the records were read.
            if any(name in record.objects for record in ledger.of_claim(claim)):
                continue
            if not dry_run:
                holding.place.delete(name)
        yield Leftover(holding.name, name, size)
