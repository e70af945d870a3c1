"""From a probe to a plan: bytes, objects and hours of a teacher's whole run, by arithmetic alone.

Every object that a cache holds is counted: logits, digests, canaries, seeds, ledger, metadata, pilot, evaluation, plain
views.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stillroom.storage.cache.layout import Layout
from stillroom.storage.codecs.kinds import kind_of

from .measurements import Probe

_CRC = 4
_SIZES_LINE = 16
"""Bytes of a data shard's line in the cache's own metadata."""


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        samples, views: how many samples, and views of each.
        slots: samples of the largest data shard.
        shards: data shards.
        views_per_block: views in one block; `views` is a multiple of it.
        classes: extent of the class axis.
        evaluation: samples of the evaluation set; 0 without one.
        canaries: views that are kept whole.
        plain: whether logits of plain views are kept.
    """

    samples: int
    views: int
    slots: int
    shards: int
    views_per_block: int
    classes: int
    evaluation: int
    canaries: int
    plain: bool = False

    @property
    def blocks(self) -> int:
        """Tasks of the teacher, of one data shard and block each."""
        return self.shards * (self.views // self.views_per_block)


@dataclass(frozen=True)
class Known:
    """Sizes in bytes of what is there already, and numbers of its objects.

    Attributes:
        seeds_shards: data shards of the cache that is there.
        seeds_metadata, seeds_record: metadata and record of its seeds.
        pilot, pilot_record, pilot_objects: the pilot, its record, and how many objects it is.
        pilot_share: bytes of its logits for each byte of them as float32, which those on the evaluation set take too.
        model: characters of the fitted transform in the logits' metadata.
    """

    seeds_shards: int
    seeds_metadata: int
    seeds_record: int
    pilot: int
    pilot_record: int
    pilot_objects: int
    pilot_share: float
    model: int


@dataclass(frozen=True)
class Forecast:
    """What a plan takes.

    Attributes:
        bytes: by kind of object.
        objects: how many, records among them.
        seconds: of one worker like the one that was probed.
    """

    bytes: Mapping[str, int]
    objects: int
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.bytes.values())


def forecast(plan: Plan, probe: Probe, known: Known, codec: str) -> Forecast:
    """Predict.

    Args:
        plan: what is to be made.
        probe: what was measured, with the run's own codec.
        known: what is there already.
        codec: one of those that the probe tried.
    """
    seeds_chunk, _ = Layout((plan.slots,) * plan.shards, plan.views_per_block).seeds_chunk()
    seeds_chunks = -(-plan.shards // seeds_chunk)
    # Each array of logits holds the model. Of plain views, each data shard is a task with one object.
    models = (kind_of(codec).fitted - kind_of(probe.codec).fitted) * (2 if plan.plain else 1)
    plain = plan.shards if plan.plain else 0
    sizes = {
        "logits": probe.tried[codec].lost["bytes_per_view"] * plan.samples * plan.views,
        "digests": plan.blocks * (2 * plan.slots * plan.views_per_block + _CRC),
        "canaries": plan.canaries * probe.canary,
        "seeds": 8 * plan.slots * plan.shards + _CRC * seeds_chunks,
        "ledger": (plan.blocks + plain) * probe.record + known.seeds_record + known.pilot_record,
        "metadata": probe.metadata
        + models * known.model
        + known.seeds_metadata
        + _SIZES_LINE * (plan.shards - known.seeds_shards),
        "pilot": known.pilot,
        "evaluation": 4 * plan.evaluation * plan.classes * known.pilot_share,
        "plain": probe.tried[codec].lost["bytes_per_view"] * (plan.samples if plan.plain else 0),
    }
    # A block: logits, digests, record. Once: metadata of a group and three arrays and its record; the cache's own.
    objects = 3 * plan.blocks + plan.canaries + 4 + 1 + 4 + seeds_chunks + 1 + known.pilot_objects + 1
    if plan.evaluation:
        # Logits, metadata and record.
        objects += -(-4 * plan.evaluation * plan.classes // (16 << 20)) + 2
    if plan.plain:
        # Metadata and its record; each data shard's logits and record.
        objects += 2 + 2 * plain
    each = probe.block_seconds(plan.samples / plan.shards, plan.views_per_block)
    one = probe.block_seconds(1, 1) - probe.block_seconds(0, 1)
    seconds = probe.startup + plan.blocks * each + plan.evaluation * one
    seconds += plain * probe.block_seconds(plan.samples / plan.shards, 1)
    return Forecast({name: round(size) for name, size in sizes.items()}, objects, seconds)
