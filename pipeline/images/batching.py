"""Items in runs that are not too heavy together."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def runs(items: Iterable[T], weight: Callable[[T], int], most: int, count: int = sys.maxsize) -> Iterator[list[T]]:
    """All items in their order; an item that is too heavy by itself is a run of its own.

    Args:
        items: taken one by one.
        weight: of an item.
        most: of a run, in weight.
        count: of a run, in items.
    """
    run: list[T] = []
    total = 0
    for item in items:
        heavy = weight(item)
        if run and (len(run) == count or total + heavy > most):
            yield run
            run, total = [], 0
        run.append(item)
        total += heavy
    if run:
        yield run
