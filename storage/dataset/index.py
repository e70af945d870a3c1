"""The index of one data shard: where each sample's bytes lie in the tar, and what ingest learnt of it.

One Parquet file a shard. With it, samples are read by offset, and windows are drawn before anything is decoded.
"""

import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from stillroom.storage.errors import DamagedObjectError

NO_LABEL = -1
"""Label of a sample that has none."""
_FIELDS: dict[str, pa.DataType] = {
    "uid": pa.uint64(),
    "key": pa.string(),
    "label": pa.int32(),
    "slot": pa.int32(),
    "offset": pa.int64(),
    "size": pa.int64(),
    "height": pa.int32(),
    "width": pa.int32(),
    "digest": pa.uint64(),
}
_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _FIELDS.items()])


@dataclass(frozen=True)
class ShardIndex:
    """Columns of n samples, in slot order.

    Attributes:
        uid: uint64 [n], the sample's number for seeds.
        key: n strings, unique in the data set.
        label: int32 [n], index into the data set's classes; NO_LABEL in a data set without labels.
        offset: int64 [n], where the image's bytes start in the tar.
        size: int64 [n], how many they are.
        height, width: int32 [n], pixels of the upright image.
        digest: uint64 [n], xxh3-64 of the image's bytes.
    """

    uid: npt.NDArray[np.uint64]
    key: tuple[str, ...]
    label: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    height: npt.NDArray[np.int32]
    width: npt.NDArray[np.int32]
    digest: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.key)

    def first(self, count: int) -> "ShardIndex":
        """Its first samples."""
        return ShardIndex(*(getattr(self, field.name)[:count] for field in fields(self)))

    @property
    def pixels(self) -> npt.NDArray[np.int64]:
        """int64 [n], of each decoded image."""
        return self.height.astype(np.int64) * self.width

    def to_parquet(self) -> bytes:
        """The index as the bytes of a Parquet file, the same for the same samples."""
        columns: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        columns["key"] = list(self.key)
        columns["slot"] = np.arange(len(self), dtype=np.int32)
        table = pa.table({name: pa.array(columns[name], _SCHEMA.field(name).type) for name in _SCHEMA.names}, _SCHEMA)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", store_schema=False)
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes, name: str) -> "ShardIndex":
        """Read what `to_parquet` wrote; `name` is for the message.

        Raises:
            DamagedObjectError: it is not such a file.
        """
        try:
            table = pq.ParquetFile(pa.BufferReader(data)).read()  # `read_table` imports all of pyarrow's data sets
            columns = {item.name: table.column(item.name) for item in fields(cls)}
            return cls(
                key=tuple(map(str, columns.pop("key").to_pylist())),
                **{key: np.ascontiguousarray(column.to_numpy()) for key, column in columns.items()},
            )
        except (pa.ArrowException, KeyError, OSError, ValueError) as error:
            raise DamagedObjectError(f"{name} is not a readable index: {error}; run ingest again") from error
