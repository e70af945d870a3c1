"""What is said of an image: whether it can be used, or why not. Knows nothing of how that is found out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Accepted:
    """An image that decodes: size in pixels of the upright image."""

    height: int
    width: int


@dataclass(frozen=True)
class Rejected:
    """An image that cannot be used, and why."""

    reason: str


Verdict = Accepted | Rejected
