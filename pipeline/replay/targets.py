"""A student's guide: whose logits go with the pixels of a view, and of which view they are.

The paper's designs over one cache. Consistent: student and teacher see the same view. Independent: the logits are those
of another view of the same image. Fixed: they are those of one plain view, whatever the student sees. Function matching
is consistent over a cache whose views are mixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.errors import ConfigError, MissingObjectError, ModelError

from .epoch_order import Order

Design = Literal["fixed", "independent", "consistent"]
PLAIN = -1
"""In place of a view's number: the plain view."""


@dataclass(frozen=True)
class Targets:
    """What the views of a data shard are to be answered with.

    Attributes:
        source: the view that the logits are of, or `PLAIN`.
        logits: float32 [slot, class].
    """

    source: int
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TargetSource:
    """Where a student's targets come from.

    Attributes:
        teachers: whose logits, one or more; the digests of the first one prove the views.
        weights: of each in their mean; they sum to 1.
        design: how views and logits are paired.
    """

    teachers: tuple[TeacherLogits, ...]
    weights: tuple[float, ...]
    design: Design = "consistent"

    @classmethod
    def of(
        cls,
        cache: Cache,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        design: Design = "consistent",
        size: int | None = None,
        opened: Mapping[str, TeacherLogits] | None = None,
    ) -> Self:
        """A guide of some of a cache's teachers.

        Args:
            cache: which.
            names: of the teachers.
            weights: of each; default all alike.
            design: how views and logits are paired.
            size: of the student's views; a teacher of that size comes first, since it proves every view at no cost.
            opened: teachers that are open already: guides of the same ones are read once for all who share a pass.

        Raises:
            ConfigError: weights do not fit the teachers, or the design does not fit mixed views.
            ModelError: the teachers have different numbers of classes.
            MissingObjectError: the cache has no such teacher.
        """
        stated = tuple(weights) if weights is not None else (1.0,) * len(names)
        good = all(0.0 <= share < inf for share in stated) and sum(stated) > 0
        if not names or len(stated) != len(names) or len(set(names)) < len(names) or not good:
            raise ConfigError(
                f"{len(stated)} weights {list(stated)} do not fit teachers {list(names)}; name each teacher once, and "
                "give each a share, 0 or more and not all 0"
            )
        if design != "consistent" and cache.info.recipe.get("mixup"):
            raise ConfigError(
                f"design = {design!r} pairs pixels with logits of another view, and this cache's views are mixed with "
                "partners that change from view to view; use a cache with views.mixup = false"
            )
        shares = [weight / sum(stated) for weight in stated]
        found = {name: (opened or {}).get(name) or cache.teacher(name) for name in names}
        pairs = [(found[name], share) for name, share in zip(names, shares, strict=True)]
        pairs.sort(key=lambda pair: pair[0].info.size != size)
        counts = {teacher.name: teacher.info.classes for teacher, _ in pairs}
        if len(set(counts.values())) > 1:
            raise ModelError(f"logits of different numbers of classes cannot be averaged: {counts}")
        return cls(tuple(teacher for teacher, _ in pairs), tuple(weight for _, weight in pairs), design)

    @property
    def first(self) -> TeacherLogits:
        return self.teachers[0]

    def refuse_gaps(self, views: int) -> None:
        """Refuse to begin where some of the first `views` views are not done.

        Raises:
            MissingObjectError: some are not; names the teacher.
            ConfigError: there is only one, and the design needs another.
        """
        for teacher in self.teachers:
            finished = teacher.finished_views()
            if not finished or views > finished:
                raise MissingObjectError(
                    f"teacher {teacher.name!r} has finished {finished} views of every data shard, not {views}; "
                    "run `stillroom teacher` to the end"
                )
            if self.design == "fixed" and (missing := teacher.missing_plain()):
                raise MissingObjectError(
                    f"design = 'fixed' needs the logits of plain views, and teacher {teacher.name!r} has none of "
                    f"{len(missing)} data shards; set cache.plain = true and run `stillroom teacher`"
                )
        if self.design == "independent" and views < 2:
            raise ConfigError("design = 'independent' needs two views or more, and one is used; use more views")

    def targets(self, order: Order, shard: int, epoch: int, views: int) -> Targets:
        """What an epoch's views of a data shard are to be answered with.

        Args:
            order: of the epoch.
            shard, epoch: which.
            views: how many are used.

        Raises:
            StoreError: something on disk is not what its record says.
            ModelError: some logits are not finite.
        """
        if self.design == "fixed":
            return Targets(PLAIN, self._mean(shard, PLAIN))
        source = order.view(shard, epoch, views, ahead=1 if self.design == "independent" else 0)
        return Targets(source, self._mean(shard, source))

    def _mean(self, shard: int, source: int) -> npt.NDArray[np.float32]:
        found = [
            teacher.plain(shard) if source == PLAIN else teacher.logits(shard, source) for teacher in self.teachers
        ]
        mean = found[0]
        if len(found) > 1:
            mean = np.zeros_like(found[0])
            for logits, weight in zip(found, self.weights, strict=True):
                mean += np.float32(weight) * logits
        if not np.isfinite(mean).all():
            names = ", ".join(teacher.name for teacher in self.teachers)
            which = "the plain view" if source == PLAIN else f"view {source}"
            raise ModelError(f"teacher {names}: logits of data shard {shard}, {which} are not all finite")
        return mean
