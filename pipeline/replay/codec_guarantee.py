"""How far a cache can be trusted at a student's temperature: what its codec guarantees, and what was measured.

Knows a teacher's attributes and its blocks' records; reads no logits.
"""

from dataclasses import dataclass
from typing import Any

from stillroom.storage.cache.layout import teacher_folder
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.writers.loss_summary import join_losses

_BLOCKS = 64
"""Records that are read for what was measured, at most: a large cache has many thousands, maybe far away. Evenly spread
over data shards and views."""


@dataclass(frozen=True)
class Faithfulness:
    """A cached teacher at one softmax temperature.

    Attributes:
        temperature: the T that was asked for.
        guaranteed: lowest and highest T at which the codec holds a bound; None where it holds none.
        max_kl: that bound, nats times T², mean of a view's rows; None where there is none.
        nearest: the T nearest to it at which blocks were measured; None where none was.
        kl: mean KL(teacher ‖ cache) · T² in nats at that T; None likewise.
        blocks: how many blocks' records that mean is over, and how many there are.
        note: what someone who asks for that temperature should be told; None where there is nothing to tell.
    """

    temperature: float
    guaranteed: tuple[float, float] | None
    max_kl: float | None
    nearest: float | None
    kl: float | None
    blocks: tuple[int, int]
    note: str | None

    def facts(self) -> dict[str, Any]:
        """For a record."""
        return {
            "temperature": self.temperature,
            "guaranteed": list(self.guaranteed) if self.guaranteed else None,
            "max_kl": self.max_kl,
            "measured_at": self.nearest,
            "kl": self.kl,
            "blocks": list(self.blocks),
            "note": self.note,
        }


def faithfulness(teacher: TeacherLogits, temperature: float) -> Faithfulness:
    """What a cached teacher is worth at a temperature.

    Floats, rounded to 16 bits or not, keep every temperature; a transform guarantees those from its lowest to its
    highest; the other codecs guarantee nothing, so that only what was measured can be told.
    """
    codec = teacher.info.codec
    if kind_of(codec).lossless:
        return Faithfulness(temperature, None, None, None, None, (0, 0), None)
    records = teacher.ledger.snapshot(f"{teacher_folder(teacher.name)}/blocks")
    tasks = list(records.tasks())
    chosen = [tasks[place * len(tasks) // _BLOCKS] for place in range(_BLOCKS)] if len(tasks) > _BLOCKS else tasks
    blocks = len(chosen), len(tasks)
    measured = join_losses(record.facts for record in map(records.get, chosen) if record is not None)
    nearest = kl = None
    if measured is not None:
        place, nearest = min(enumerate(measured["temperatures"]), key=lambda item: abs(item[1] - temperature))
        kl = measured["kl_mean"][place]
    some = f" over {blocks[0]} of {blocks[1]:,} blocks" if blocks[0] < blocks[1] else ""
    said = f"; measured at {nearest:g}{some}: {kl:.3g} nats" if nearest is not None else ""
    if not kind_of(codec).fitted:
        note = (
            f"temperature {temperature:g}: the cache of teacher {teacher.name!r} is {codec}, which guarantees nothing "
            f"at any temperature{said} of KL · T² lost on average"
        )
        return Faithfulness(temperature, None, None, nearest, kl, blocks, note if said else note.partition(" of KL")[0])
    settings = teacher.info.transform["cache"]
    low, high, bound = min(settings["temperatures"]), max(settings["temperatures"]), settings["max_kl"]
    outside = None
    if not low <= temperature <= high:
        reach = f"temperature {low:g}" if low == high else f"temperatures {low:g} to {high:g}"
        outside = (
            f"temperature {temperature:g}: the cache of teacher {teacher.name!r} guarantees KL · T² of {bound:g} nats "
            f"for {reach} only{said}; a cache with cache.temperatures that reach {temperature:g} would guarantee it"
        )
    return Faithfulness(temperature, (low, high), bound, nearest, kl, blocks, outside)
