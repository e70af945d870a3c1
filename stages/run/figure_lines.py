"""A task's figures as a line for people. Knows nothing of what they mean."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST = 20
"""Lines of a stage that are worth reading."""


def figure_lines(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """A line for each task that has any of some figures.

    Args:
        results: what tasks returned, by name.
        names: of the figures, in order.
    """
    return list(_lines(results, names))[:MOST]


def _lines(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    for task, result in results.items():
        figures = [f"{name} {_figure(result[name])}" for name in names if name in result]
        if figures:
            yield f"{task}: {', '.join(figures)}"


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
