"""A teacher's logits, collected as they come."""

from typing import Any


def into(logits: Any) -> Any:
    """What puts them into an array [view, slot, class], as `BlockMaker.make` gives them."""

    def take(place: int, slots: Any, rows: Any) -> None:
        logits[place, slots] = rows

    return take
