"""An ingested data set: its description, its data shards and their indexes, checked when first read.

Knows where samples' bytes are and what their labels are; nothing of how an image looks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xxhash

from stillroom.storage.errors import DamagedObjectError, DataError, MissingObjectError
from stillroom.storage.ledger.fingerprint import canonical
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.base import Place
from stillroom.storage.objects.urls import open_parent

from .encoded_images import Allowance, Checked, Image, extent, fetched, whole
from .index import ShardIndex

DESCRIPTION = "dataset.json"
REJECTED = "rejected.jsonl"
WHOLE_TASK = "dataset"
"""Task that joins the indexes and writes the description."""
JOINED = "indexes"
"""Fact of that task's record: digest of each index that it joined, by the index's name."""
FORMAT = 1


def shard_name(shard: int) -> str:
    """Name of a data shard that ingest wrote."""
    return f"shards/{shard:06d}.tar"


def index_name(shard: int) -> str:
    """Name of a data shard's index."""
    return f"index/{shard:06d}.parquet"


def ingest_task(shard: int) -> str:
    """Name of the task that writes a data shard and its index."""
    return f"ingest/{shard:06d}"


@dataclass(frozen=True)
class Description:
    """What `dataset.json` says.

    Attributes:
        classes: names, in label order; empty in a data set without labels.
        shards: URL of each tar; relative ones are under the data set's own place.
        sizes: number of samples of each.
        numbers: number of the ingest task that wrote each; shards that were rejected whole are left out.
        rejected: how many samples ingest refused.
        digest: of all keys, labels, sizes and contents.
        ingest: what the data set was made from.
    """

    classes: tuple[str, ...]
    shards: tuple[str, ...]
    sizes: tuple[int, ...]
    numbers: tuple[int, ...]
    rejected: int
    digest: str
    ingest: Mapping[str, Any]
    format: int = FORMAT

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"


@dataclass
class Dataset:
    """A data set at a place.

    Args:
        place: where `dataset.json` is.

    Attributes:
        description: what that says.
        ledger: the data set's.
        joined: digest of each index that it was made from, by name; empty where an older version did not note them.

    Raises:
        MissingObjectError: nothing was ingested there, or not completely.
        DataError: a newer version of stillroom wrote it.
    """

    place: Place
    description: Description = field(init=False)
    ledger: Ledger = field(init=False)
    joined: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.place)
        record = self.ledger.get(WHOLE_TASK)
        if record is None:
            raise MissingObjectError(f"{self.place} holds no ingested data; run `stillroom ingest` first")
        try:
            data = self.place.read(DESCRIPTION)
            if ObjectDigest.of(data) != record.objects[DESCRIPTION]:
                raise ValueError("it differs from its ledger record")
            stored = json.loads(data)
        except (MissingObjectError, ValueError) as error:
            raise DamagedObjectError(f"{self.place}/{DESCRIPTION} is damaged ({error}); run ingest again") from error
        self.joined = record.facts.get(JOINED, {})
        found = stored.get("format") if isinstance(stored, dict) else None
        if isinstance(found, int) and found != FORMAT:
            raise DataError(
                f"{self.place}/{DESCRIPTION} has format {found}, this stillroom reads {FORMAT}; "
                "use the version that wrote it"
            )
        try:
            lists = {name: tuple(stored[name]) for name in ("classes", "shards", "sizes", "numbers")}
            self.description = Description(**{**stored, **lists})
        except (TypeError, KeyError) as error:
            raise DamagedObjectError(f"{self.place}/{DESCRIPTION} is damaged ({error}); run ingest again") from error

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of samples of each data shard."""
        return self.description.sizes

    @property
    def samples(self) -> int:
        return sum(self.sizes)

    def index(self, shard: int) -> ShardIndex:
        """Index of a data shard.

        Raises:
            MissingObjectError, DamagedObjectError: it is not what ingest wrote.
        """
        number = self.description.numbers[shard]
        record = self.ledger.get(ingest_task(number))
        name = index_name(number)
        if record is None:
            raise MissingObjectError(f"{self.place} has no record of data shard {number}; run `stillroom ingest` again")
        if not self.joins(record):
            raise DamagedObjectError(
                f"the record {self.place}/{self.ledger.name(record.task)} and its {name} are not those that "
                f"{DESCRIPTION} was made from; `stillroom verify --repair` has the data shard made again"
            )
        return read_index(self.place, record, name)

    def joins(self, record: Record) -> bool:
        """Whether a data shard's record is one of those that the description was made from."""
        return all(name not in self.joined or item.digest == self.joined[name] for name, item in record.objects.items())

    def owns(self, shard: int) -> bool:
        """Whether ingest wrote a data shard's tar; it may be somebody else's that is only indexed."""
        return self.description.shards[shard] == shard_name(self.description.numbers[shard])

    def images(self, shard: int, index: ShardIndex, within: Allowance | None = None) -> Sequence[Image]:
        """The encoded images of a data shard in slot order: uint8 [size].

        Args:
            shard: which.
            index: its own.
            within: what may be in memory. Where the tar fits, or nothing is said, it is read in one go and checked now;
                else each image is fetched and checked when it is asked for.

        Raises:
            DamagedObjectError: a sample's bytes are not those that were ingested.
        """
        url = self.description.shards[shard]
        place, name = (self.place, url) if self.owns(shard) else open_parent(url)
        checked = Checked(index, url, shard)
        within = within if within is not None else Allowance(extent(index))
        buffer = within.read(extent(index), lambda: place.read(name))
        return fetched(place, name, checked) if buffer is None else whole(buffer, checked)


def read_index(place: Place, record: Record, name: str) -> ShardIndex:
    """An index that a record lists.

    Raises:
        MissingObjectError, DamagedObjectError: it is not what the record says.
    """
    data = place.read(name)
    if ObjectDigest.of(data) != record.objects.get(name):
        raise DamagedObjectError(
            f"{place}/{name} differs from its ledger record; delete {Ledger(place).name(record.task)} there and run "
            "`stillroom ingest` again"
        )
    return ShardIndex.from_parquet(data, f"{place}/{name}")


def contents_digest(indexes: list[ShardIndex], classes: tuple[str, ...]) -> str:
    """Digest of a whole data set: every key, label, size and content, in order."""
    state = xxhash.xxh3_128(canonical(list(classes)))
    for index in indexes:
        state.update(canonical(list(index.key)))
        for column in (index.label, index.height, index.width, index.digest):
            state.update(np.ascontiguousarray(column).tobytes())
    return str(state.hexdigest())
