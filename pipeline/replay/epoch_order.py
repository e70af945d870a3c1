"""A student's epoch: which samples come in which global batch, as a pure function of (student seed, epoch).

Data shards are dealt into lanes; in a lane a window of shards is held and its units shuffled; the lanes are merged in
proportion to their lengths, and the merged sequence is cut into batches. A rank owns whole lanes, so the same global
batches come in the same order on any number of ranks. Knows counts, and nothing of images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.rng.seeds import PASSES, SHARDS, UNITS, permutation
from stillroom.storage.errors import ConfigError

LANES = 8
_SPAN = 512
"""Batches whose places are looked at together."""


@dataclass(frozen=True)
class Places:
    """Where samples of an epoch are.

    Attributes:
        shard: int32 [n], data shard.
        position: int32 [n], place in that shard's order of pairs (see `Mixup.draw`), or slot where unpaired.
        lane: int32 [n].
    """

    shard: npt.NDArray[np.int32]
    position: npt.NDArray[np.int32]
    lane: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.shard)

    def where(self, mask: npt.NDArray[np.bool_]) -> "Places":
        return Places(self.shard[mask], self.position[mask], self.lane[mask])

    def slice(self, start: int, stop: int) -> "Places":
        return Places(self.shard[start:stop], self.position[start:stop], self.lane[start:stop])


@dataclass(frozen=True)
class Order:
    """How epochs are ordered.

    Args:
        sizes: number of samples in each data shard.
        batch_size: samples in a global batch.
        seed: the student's.
        paired: keep the halves of mixed pairs together.
        window: data shards of a lane that are shuffled together.

    Raises:
        ConfigError: there are fewer samples than one batch takes.
    """

    sizes: Sequence[int]
    batch_size: int
    seed: int
    paired: bool
    window: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(
                f"batch_size is {self.batch_size} and there are {sum(self.sizes)} samples; use a smaller batch_size"
            )

    @property
    def lanes(self) -> int:
        """A power of two, so that 2, 4 or 8 ranks divide it."""
        return 1 << (min(LANES, len(self.sizes)).bit_length() - 1)

    @property
    def steps(self) -> int:
        """Whole global batches in an epoch; the samples left over differ from epoch to epoch."""
        return sum(self.sizes) // self.batch_size

    def view(self, shard: int, epoch: int, views: int, ahead: int = 0) -> int:
        """The view of a data shard that an epoch replays: each of them once before any comes again.

        Args:
            shard: which.
            epoch: from 0.
            views: how many are used.
            ahead: so many further on in the same cycle: another view, and as evenly used, for 0 < ahead < views.
        """
        cycle, turn = divmod(epoch, views)
        return int(permutation(views, self.seed, PASSES, cycle, shard)[(turn + ahead) % views])

    def places(self, epoch: int) -> Places:
        """All samples of an epoch's batches, in order: batch k is [k · batch_size, (k + 1) · batch_size)."""
        dealt = permutation(len(self.sizes), self.seed, SHARDS, epoch)
        lanes = [dealt[lane :: self.lanes] for lane in range(self.lanes)]
        lane = _merged([sum(self._units(self.sizes[shard]) for shard in shards) for shards in lanes])
        # What comes when, of each lane in turn: all at once would hold every array of millions several times.
        shard, unit = np.empty(len(lane), np.int32), np.empty(len(lane), np.int32)
        for number, shards in enumerate(lanes):
            mine = np.flatnonzero(lane == number)
            shard[mine], unit[mine] = self._lane(shards, number, epoch)
        return self._samples(shard, unit, lane).slice(0, self.steps * self.batch_size)

    def refuse_empty_shares(self, epochs: Iterable[int], world: int) -> None:
        """Refuse a number of ranks of which one would have no sample of some batch; every rank finds the same.

        Args:
            epochs: those that will be asked for.
            world: number of ranks.

        Raises:
            ConfigError: one would.
        """
        if world == 1 or self._least_share(world) >= 1:
            return
        for epoch in epochs:
            lanes = self.places(epoch).lane.reshape(self.steps, self.batch_size)
            for rank in range(world):
                bare = np.flatnonzero(~(lanes % world == rank).any(axis=1))
                if len(bare):
                    raise ConfigError(
                        f"batch_size is {self.batch_size}, of which rank {rank} of {world} would have no sample in "
                        f"batch {bare[0]} of epoch {epoch}; use a larger batch_size or fewer ranks"
                    )

    def _least_share(self, world: int) -> float:
        """Units that a rank surely has in any batch of any epoch: a bound, which may be far below the truth.

        A batch spans at least d of an epoch, in which a lane of n units has at least d · n − 1 of them.
        """
        units = sorted(map(self._units, self.sizes))
        lane = sum(units[: len(units) // self.lanes])
        span = (self.batch_size / (2 if self.paired else 1) - self.lanes) / sum(units)
        return (span * lane - 1) * self.lanes / world

    def _lane(
        self, shards: npt.NDArray[np.int64], lane: int, epoch: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Units of a lane in order: data shard and number in it."""
        found = []
        for group, first in enumerate(range(0, len(shards), self.window)):
            held = shards[first : first + self.window]
            counts = [self._units(self.sizes[shard]) for shard in held]
            shard = np.repeat(held.astype(np.int32), counts)
            unit = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
            # The group's number leaves room for a million groups in each of the lanes.
            shuffled = permutation(len(unit), self.seed, UNITS, epoch, lane << 20 | group)
            found.append((shard[shuffled], unit[shuffled]))
        return np.concatenate([shard for shard, _ in found]), np.concatenate([unit for _, unit in found])

    def _units(self, size: int) -> int:
        return -(-size // 2) if self.paired else size

    def _samples(
        self, shard: npt.NDArray[np.int32], unit: npt.NDArray[np.int32], lane: npt.NDArray[np.int32]
    ) -> Places:
        if not self.paired:
            return Places(shard, unit, lane)
        counts = np.minimum(2, np.asarray(self.sizes, np.int32)[shard] - 2 * unit).astype(np.int8)
        position = np.repeat(2 * unit, counts)
        position[np.cumsum(counts)[counts == 2] - 1] += 1  # the second of a pair
        return Places(np.repeat(shard, counts), position, np.repeat(lane, counts))


def last_uses(places: Places, batch_size: int, start: int, rank: int, world: int) -> dict[int, int]:
    """The last batch in which a rank needs each data shard, in the order in which it first needs them.

    Args:
        places: of an epoch's batches.
        batch_size: samples in a global batch.
        start: the first batch that is asked for.
        rank, world: which rank of how many.
    """
    shards, steps = int(places.shard.max(initial=-1)) + 1, len(places) // batch_size
    first, last = np.full(shards, steps), np.full(shards, -1)
    # A span of batches at a time: an epoch may have millions of places.
    for begin in range(start, steps, _SPAN):
        some = places.slice(begin * batch_size, min(begin + _SPAN, steps) * batch_size)
        mine = np.flatnonzero(some.lane % world == rank)
        shard, batch = some.shard[mine], begin + mine // batch_size
        # Of several values for one data shard, the last stays.
        last[shard] = batch
        new = np.full(shards, steps)
        new[shard[::-1]] = batch[::-1]
        np.minimum(first, new, out=first)
    used = np.flatnonzero(last >= 0)
    return {int(shard): int(last[shard]) for shard in used[np.argsort(first[used], kind="stable")]}


def _merged(lengths: Sequence[int]) -> npt.NDArray[np.int32]:
    """Lanes of those lengths in proportion: for each unit of the epoch, whose it is.

    Unit j of a lane of n comes at (2j + 1) / 2n of the epoch; ties go to the lower lane.
    """
    when = np.concatenate([(np.arange(length) + 0.5) / length for length in lengths])
    order = np.argsort(when, kind="stable")
    return np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[order]
