"""What a probe found: parts of the teacher's work with the time they took, and every codec on the answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Timed:
    """A part of the teacher's work.

    Attributes:
        samples, views: of each sample.
        read: seconds until its images were there, which a whole data shard's part takes as long.
        work: seconds to render, classify, encode, measure and write.
    """

    samples: int
    views: int
    read: float
    work: float


@dataclass(frozen=True)
class Tried:
    """A codec on the probe's logits.

    Attributes:
        lost: bytes per view and KL by temperature; see `BlockFacts.facts`.
        rate: views per second that are encoded, measured and written.
    """

    lost: Mapping[str, Any]
    rate: float


@dataclass(frozen=True)
class Probe:
    """What came of it.

    Attributes:
        codec: the run's own.
        parts: what was timed.
        startup: seconds to load the teacher and build the renderer, once for each worker.
        tried: all codecs, the run's own among them, on the same logits.
        metadata: bytes of the metadata of a teacher's arrays, the fitted model included; those of plain views too.
        record: bytes of a block's record.
        canary: bytes of a view that is kept whole; 0 where the probe kept none.
    """

    codec: str
    parts: tuple[Timed, ...]
    startup: float
    tried: Mapping[str, Tried]
    metadata: int
    record: float
    canary: float

    @property
    def views(self) -> int:
        return sum(part.samples * part.views for part in self.parts)

    @property
    def seconds(self) -> float:
        return sum(part.read + part.work for part in self.parts)

    def block_seconds(self, samples: float, views: int) -> float:
        """What a whole block takes: its data shard is read once, all else goes with its views."""
        read = float(np.mean([part.read for part in self.parts]))
        return read + samples * views * sum(part.work for part in self.parts) / self.views
