"""A teacher's logits of one plain view of each sample, for reading: the centre view as in evaluation, unmixed.

A cache has them where its run asked for them. All of it comes through the cache's checked store.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from stillroom.storage.errors import DamagedObjectError, MissingObjectError, StoreError
from stillroom.storage.ledger.fingerprint import Fingerprint, fingerprint_digest
from stillroom.storage.ledger.ledger import Ledger

from .layout import PLAIN, Layout, plain_folder, plain_layout_task, plain_shard, plain_task
from .metadata import check_array
from .zarr_store import CheckedStore

CROP = "data.eval_crop"
"""The setting that plain views depend on besides all that a teacher's other views do."""


def plain_fingerprint(identity: str, crop: float) -> Fingerprint:
    """What logits of plain views are made from.

    Args:
        identity: of the teacher's logits; see `TeacherInfo.identity`.
        crop: side of the centred square, as a share of the image's shorter side.
    """
    return {"logits": identity, CROP: crop}


class PlainLogits:
    """The array, opened when it is first asked for.

    Args:
        group: the cache's, over a checked store.
        ledger, layout: the cache's.
        name: the teacher's.
        classes: extent of the class axis.
        identity: of the teacher's logits.
    """

    def __init__(
        self, group: zarr.Group, ledger: Ledger, layout: Layout, name: str, classes: int, identity: str
    ) -> None:
        self.group, self.ledger, self.layout = group, ledger, layout
        self.name, self.classes, self.identity = name, classes, identity
        self._array: Any = None

    def crop(self) -> float | None:
        """The centred square's side, as a share of the image's shorter side; None where nothing is laid out.

        Raises:
            StoreError: the array's metadata are damaged, or are not what stillroom writes.
        """
        if self.ledger.get(plain_layout_task(self.name)) is None:
            return None
        return float(self._opened().attrs["stillroom"][CROP])

    def read(self, shard: int) -> npt.NDArray[np.float32]:
        """Logits of a data shard's plain views: float32 [slot, class], as many slots as it has samples.

        Raises:
            MissingObjectError: they were not asked for, or are not done.
            DamagedObjectError: they are not what was written, or are of other views.
        """
        crop, record = self.crop(), self.ledger.get(plain_task(self.name, shard))
        if crop is None or record is None:
            raise MissingObjectError(
                f"teacher {self.name} has no logits of plain views of data shard {shard}; "
                "set cache.plain = true and run `stillroom teacher`"
            )
        self._refuse_foreign(record.task, record.fingerprint, crop)
        return np.asarray(self._opened()[shard, : self.layout.sizes[shard]], dtype=np.float32)

    def missing(self) -> list[int]:
        """Data shards whose record is not there."""
        finished = {plain_shard(task) for task in self.ledger.tasks(plain_folder(self.name))}
        return [shard for shard in range(self.layout.shards) if shard not in finished]

    def _opened(self) -> Any:
        if self._array is None:
            store, path = self.group.store, plain_folder(self.name)
            assert isinstance(store, CheckedStore)
            # Zarr shards hold all slots, rounded up to whole chunks.
            slots = range(self.layout.slots, 2 * self.layout.slots + 1)
            check_array(
                store,
                path,
                {"shard": self.layout.shards, "slot": self.layout.slots, "class": self.classes},
                (1, slots, self.classes),
                ["float16", "float32"],
                inner=(1, range(1, slots.stop), self.classes),
            )
            try:
                array: Any = self.group[path]
                stated = array.attrs.get("stillroom")
            except (ValueError, TypeError, KeyError) as error:
                raise StoreError(f"teacher {self.name}: its array {PLAIN} cannot be opened: {error}") from error
            crop = stated.get(CROP) if isinstance(stated, dict) else None
            if not isinstance(crop, float) or not 0.0 < crop <= 1.0:
                raise StoreError(f"{store.place}/{path}/zarr.json: {CROP} is {crop!r}, should be a share in (0, 1]")
            record = self.ledger.get(plain_layout_task(self.name))
            if record is not None:
                self._refuse_foreign(record.task, record.fingerprint, crop)
            self._array = array
        return self._array

    def _refuse_foreign(self, task: str, found: str, crop: float) -> None:
        """A record vouches for nothing in a cache of other views, or of another teacher of that name."""
        if found != fingerprint_digest(plain_fingerprint(self.identity, crop)):
            raise DamagedObjectError(
                f"the record {self.ledger.place}/{self.ledger.name(task)} is of other views, or of another teacher "
                "than this cache's; `stillroom verify --repair` has the task done again"
            )
