"""What a check found: counts, what is wrong, and which task would have to be done again."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Failure:
    """Something that is wrong.

    Attributes:
        check: which check found it.
        where: the object, or the teacher, data shard, view and slot.
        message: what is wrong.
        redo: place and task whose record must go, so that the task is done again; None where that does not help.
        about: place and task that is at fault where none is to be dropped; what builds on it is not judged.
    """

    check: str
    where: str
    message: str
    redo: tuple[str, str] | None = None
    about: tuple[str, str] | None = None


@dataclass
class Finding:
    """What one task of the check found.

    Attributes:
        checked: by check, how many things were looked at.
        failures: what was wrong.
        skipped: what could not be checked, and why; and what is not wrong, but worth knowing.
        lost: by teacher, what its blocks' records say that the codec lost; see `loss_summary.join_losses`.
        kl: nats between the cached logits and the teacher's now, one for each view that was classified again.
    """

    checked: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lost: dict[str, Any] = field(default_factory=dict)
    kl: list[float] = field(default_factory=list)

    def joined(self, other: "Finding") -> "Finding":
        """Both as one."""
        names = self.checked.keys() | other.checked.keys()
        return Finding(
            {name: self.checked.get(name, 0) + other.checked.get(name, 0) for name in names},
            self.failures + other.failures,
            self.skipped + other.skipped,
            self.lost | other.lost,
            self.kl + other.kl,
        )
