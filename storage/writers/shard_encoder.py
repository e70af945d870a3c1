"""A Zarr shard of a teacher's logits on its way: rows come as the teacher answers, and go encoded.

A view whose last row has come is encoded, measured and let go, an inner chunk at a time. Knows floats, slots and
codecs; nothing of teachers, tasks or records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from stillroom.storage.codecs.registry import LogitCodec
from stillroom.storage.errors import ModelError
from stillroom.storage.spill.byte_spool import Spool
from stillroom.storage.spill.row_buffer import RowStore

from .encoding_loss import BlockFacts
from .shard_index import index_of

_CHUNK = "c/0/0/0/0"


@dataclass(frozen=True)
class Encoding:
    """How a teacher's logits are stored.

    Attributes:
        name: of the codec.
        codec: that encodes.
        chunk: slots of an inner chunk.
        slots: of a Zarr shard, whole chunks.
        classes: extent of the class axis.
        temperatures: at which each Zarr shard's loss is measured.
    """

    name: str
    codec: LogitCodec
    chunk: int
    slots: int
    classes: int
    temperatures: Sequence[float]

    def zarr_kwargs(self) -> dict[str, Any]:
        """What Zarr is told of it when an array is made."""
        return {
            "dtype": self.codec.dtype,
            "serializer": self.codec.serializer,
            "compressors": list(self.codec.compressors),
            "fill_value": float("nan"),
        }


class LogitShard:
    """One of them.

    Args:
        encoding: how it is stored.
        views: extent of the view axis.
        rows: slots that are filled; those beyond, up to whole chunks, hold NaN.
        where: for messages.
        within: bytes of memory for the rows of one view, and again for what is encoded; more are kept in files.
    """

    def __init__(self, encoding: Encoding, views: int, rows: int, where: str, within: int) -> None:
        self._encoding, self._rows, self._where, self._within = encoding, rows, where, within
        self._views = views
        self._coming: dict[int, RowStore] = {}
        self._data, self._sizes = Spool(within), list[int]()
        self._ahead: dict[int, list[bytes]] = {}
        """Views that are whole before one that lies before them."""
        self._next = 0
        self._facts = BlockFacts(
            encoding.name, encoding.codec, encoding.chunk, views * rows, encoding.classes, encoding.temperatures
        )
        self._memory: dict[str, Buffer] = {}
        # One inner chunk as an array of its own, which Zarr encodes with the same codecs into the same bytes.
        shape = (1, 1, encoding.chunk, encoding.classes)
        array = zarr.create_array(MemoryStore(self._memory), shape=shape, chunks=shape, **encoding.zarr_kwargs())
        self._scratch = array.with_config({"write_empty_chunks": True})

    def put(self, view: int, slots: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> None:
        """Take some rows of a view, each slot's once.

        Args:
            view: place on the view axis.
            slots: int64 [n].
            logits: float32 [n, class], finite.

        Raises:
            ModelError: a logit is too large for the codec.
            OSError: no room for a view that does not fit into memory.
        """
        coming = self._coming.get(view)
        if coming is None:
            coming = self._coming[view] = RowStore(self._rows, self._encoding.classes, self._within)
        coming.put(slots, logits)
        if not coming.missing:
            del self._coming[view]
            starts = range(0, self._encoding.slots, self._encoding.chunk)
            self._ahead[view] = [self._encoded(view, coming, start) for start in starts]
        while self._next in self._ahead:
            for chunk in self._ahead.pop(self._next):
                self._data.write(chunk)
                self._sizes.append(len(chunk))
            self._next += 1

    def finish(self) -> tuple[Spool, dict[str, Any]]:
        """The shard, and what encoding it lost; see `encoding_loss`. All rows have come."""
        assert self._next == self._views
        self._data.write(index_of(self._sizes))
        return self._data, self._facts.facts(len(self._sizes), len(self._data))

    def _encoded(self, view: int, coming: RowStore, start: int) -> bytes:
        logits = coming.rows(start, max(start, min(start + self._encoding.chunk, self._rows)))
        count, dtype = len(logits), self._encoding.codec.dtype
        stored = np.full(self._scratch.shape[2:], np.nan, dtype)
        with np.errstate(over="ignore"):
            stored[:count] = logits
        if not np.isfinite(stored[:count]).all():
            raise ModelError(
                f"a logit of {self._where} ({float(np.abs(logits).max()):.4g}) does not fit into {dtype}; "
                'use cache.codec = "float32"'
            )
        self._scratch[0, 0] = stored
        chunk = self._memory[_CHUNK].to_bytes()
        if count:
            decoded: Any = self._scratch[0, 0, :count]
            self._facts.add(view * self._rows + start, chunk, logits, np.asarray(decoded, np.float32))
        return chunk
