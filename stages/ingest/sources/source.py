"""What a source of images is: data shards of samples, read one shard at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from stillroom.storage.ledger.fingerprint import canonical, digest
from stillroom.storage.objects.urls import open_parent
from stillroom.storage.spill.byte_spool import Spool

from .listed import ListedSample
from .samples import Sample, Unusable, from_list, from_tar


class Source(ABC):
    """Images of one part of the data.

    Attributes:
        classes: names in label order, where they are known; empty without labels.
    """

    classes: tuple[str, ...] | None

    @property
    @abstractmethod
    def listing(self) -> str:
        """Digest of which files there are, as far as it is known before they are read."""

    @property
    @abstractmethod
    def sizes(self) -> Sequence[int]:
        """Samples of each data shard, as far as they are known before it is read; else 0."""

    @property
    def tars(self) -> Sequence[str] | None:
        """URLs of tars that are data shards as they lie; None where samples are to be packed."""
        return None

    @abstractmethod
    def read(self, shard: int, largest: int, within: int) -> tuple[Iterator[Sample | Unusable], Mapping[str, Any]]:
        """The samples of a data shard in order, and what its record says of where they are from.

        Args:
            shard: which.
            largest: bytes of an encoded image at most.
            within: bytes that may be in memory at once.
        """


@dataclass(frozen=True)
class ListedSource(Source):
    """Images that were listed, shuffled and dealt into data shards.

    Attributes:
        shards: samples of each data shard.
    """

    classes: tuple[str, ...]
    shards: tuple[tuple[ListedSample, ...], ...]

    @cached_property
    def listing(self) -> str:
        return digest(canonical([[[sample.key, sample.size] for sample in shard] for shard in self.shards]))

    @property
    def sizes(self) -> Sequence[int]:
        return [len(shard) for shard in self.shards]

    def read(self, shard: int, largest: int, within: int) -> tuple[Iterator[Sample | Unusable], Mapping[str, Any]]:  # noqa: ARG002
        return from_list(self.shards[shard], largest), {}


@dataclass(frozen=True)
class TarSource(Source):
    """Existing tars: each one is a data shard.

    Attributes:
        urls: of the tars, in order.
    """

    urls: tuple[str, ...]
    classes: tuple[str, ...] | None

    @property
    def listing(self) -> str:
        return digest(canonical(list(self.urls)))

    @property
    def sizes(self) -> Sequence[int]:
        return [0] * len(self.urls)

    @property
    def tars(self) -> Sequence[str]:
        return self.urls

    def read(self, shard: int, largest: int, within: int) -> tuple[Iterator[Sample | Unusable], Mapping[str, Any]]:
        # Read once, as students read it: what is judged, indexed and vouched for is one and the same.
        url = self.urls[shard]
        parent, name = open_parent(url)
        tar = Spool.reading(parent, name, within)
        return from_tar(tar, url, self.classes, largest), {"source": {"url": url, **asdict(tar.written)}}
