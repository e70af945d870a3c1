"""The proof that a student sees what its teacher saw: digests of rendered views against those in the cache."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.render.backend import renderer_fingerprint
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.view_digests import Hasher
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.errors import ViewMismatchError

from .batch_plan import Rows


class Prover:
    """Compares views with a teacher's digests.

    Digests are of views at the teacher's size. Where the student's views come out at that size, each one is compared;
    elsewhere a share of the batches is rendered once more for it.

    Args:
        cache: whose views they are.
        teacher: whose digests.
        sizes: at which views are rendered anyway.
        share: share of the batches to render again where the teacher's size is not among them.
        again: a renderer at the teacher's size, called for only where it is needed.
        hasher: by which rendered views are hashed.
    """

    def __init__(
        self,
        cache: Cache,
        teacher: TeacherLogits,
        sizes: tuple[int, ...],
        share: float,
        again: Renderer | None,
        hasher: Hasher,
    ) -> None:
        self._cache = cache
        self.teacher = teacher
        size = teacher.info.size
        self._output = sizes.index(size) if size in sizes else None
        self._every = max(1, round(1 / share)) if share > 0 else 0
        self._again = again
        self._hasher = hasher

    def prove(self, batch: int, rows: Rows, rendered: list[torch.Tensor]) -> int:
        """Compare a batch's views; see `begin`."""
        return self.begin(batch, rows, rendered)()

    def begin(self, batch: int, rows: Rows, rendered: list[torch.Tensor]) -> Callable[[], int]:
        """Begin to compare a batch's views.

        Args:
            batch: its number in the epoch.
            rows: what was rendered.
            rendered: for each size, uint8 [1, m, size, size, 3].

        Returns:
            What waits for the comparison, says how many views were compared, and raises a ViewMismatchError if one of
            them is another: it names the sample, both digests and what differs in the renderer.
        """
        if self._output is not None:
            pixels = rendered[self._output][0]
        elif self._again is not None and self._every and batch % self._every == 0:
            parts = rows.request().cut(rows.column(lambda shard: shard.index.pixels), len(rows))
            pixels = torch.cat([part[0] for (part,) in self._again.stream(parts)])
        else:
            return lambda: 0
        found = self._hasher.begin(pixels)
        expected = rows.column(lambda shard: shard.digests[self.teacher.name])
        return lambda: self._compare(rows, found(), expected)

    def _compare(self, rows: Rows, found: npt.NDArray[np.uint16], expected: npt.NDArray[np.uint16]) -> int:
        wrong = np.flatnonzero(found != expected)
        if len(wrong):
            row = int(wrong[0])
            raise self._mismatch(rows, row, int(found[row]), int(expected[row]))
        return len(found)

    def _mismatch(self, rows: Rows, row: int, found: int, expected: int) -> ViewMismatchError:
        shard, slot = rows.shards[rows.shard[row]], int(rows.slot[row])
        there = self._cache.info.views["renderer"]
        here = renderer_fingerprint(there["backend"])
        differs = [f"{key} is {here.get(key)} here, {there[key]} there" for key in there if here.get(key) != there[key]]
        return ViewMismatchError(
            f"view {shard.view} of sample {shard.index.key[slot]!r} (data shard {shard.shard}, slot {slot}) is not "
            f"what teacher {self.teacher.name} saw: digest {found:04x} here, {expected:04x} in the cache; "
            + ("; ".join(differs) or "`stillroom verify` shows whether the cache or this machine is at fault")
        )
