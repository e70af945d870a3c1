"""Seal: the records of a cache's tasks, tens of thousands of them, go into a few objects."""

from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.storage.cache.sealing import seal
from stillroom.storage.errors import StoreError
from stillroom.storage.ledger.claims import Claim, Claims, claims_in
from stillroom.storage.ledger.sealed import SEALED_TASK


def seal_cache(config: Config) -> dict[str, Any]:
    """Seal a run's cache. Tasks that are done later add single records beside; sealing again takes them in.

    Raises:
        StoreError: somebody writes to the cache; nothing was changed.
        DamagedObjectError: a record is damaged; nothing was removed.
    """
    place = config.cache_place
    with Claims().taken(place, SEALED_TASK) as taken:
        if not isinstance(taken, Claim):
            raise StoreError(f"{place} is being sealed by {taken}")
        # Writers look for our claim after they took theirs, and we for theirs after we took ours: one sees the other.
        for task, holder in claims_in(place).items():
            if task != SEALED_TASK and not holder.process.ended():
                raise StoreError(
                    f"{place} is being written: {task} by {holder}; seal it when nobody writes. "
                    "If that writer is gone, `stillroom gc` removes its claim after a day"
                )
        sealed = seal(place)
        if not taken.held():
            raise StoreError(f"{place}: the claim to seal it was taken over; run `stillroom seal` again")
    return {
        "cache": place.url,
        "records": sealed.record.facts["records"],
        "parts": len(sealed.parts),
        "bytes": sum(item.size for name, item in sealed.record.objects.items() if name.endswith(".jsonl")),
    }
