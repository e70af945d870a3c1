"""Where images come from: folders, torchvision's data sets, or WebDataset tars that stay where they are."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.torchvision_names import is_torchvision, parse_torchvision
from stillroom.pipeline.rng.philox import join, philox4x32, split
from stillroom.pipeline.rng.seeds import HOLDOUT, SHUFFLE, uid_of
from stillroom.storage.dataset.webdataset import expand
from stillroom.storage.errors import DataError
from stillroom.storage.ledger.fingerprint import canonical, digest
from stillroom.storage.objects.urls import danger, open_parent

from . import torchvision
from .class_names import labelled, named_classes
from .folders import FolderSample, Found, any_folder, class_folders, class_names


@dataclass(frozen=True)
class FolderSource:
    """Files of images, shuffled and dealt into data shards.

    Attributes:
        classes: names in label order: of its class folders, sorted, or of the training data; empty without labels.
        shards: samples of each data shard.
    """

    classes: tuple[str, ...]
    shards: tuple[tuple[FolderSample, ...], ...]

    @cached_property
    def listing(self) -> str:
        """Digest of which samples there are, and of how many bytes each has."""
        return digest(canonical([[[sample.key, sample.size] for sample in shard] for shard in self.shards]))


@dataclass(frozen=True)
class TarSource:
    """Existing tars: each one is a data shard.

    Attributes:
        urls: of the tars, in order.
        classes: names in label order, where they are known; empty without labels.
    """

    urls: tuple[str, ...]
    classes: tuple[str, ...] | None

    @property
    def listing(self) -> str:
        return digest(canonical(list(self.urls)))


Source = FolderSource | TarSource


def url_of(config: Config, part: str) -> str:
    """What the config says of a part of the data, "train" or "eval"."""
    return config.data.eval if part == "eval" and config.data.eval is not None else config.data.train


@lru_cache(maxsize=4)
def open_source(config: Config, part: str) -> Source:
    """The source of a part of the data, "train" or "eval". Looked at once per process.

    Raises:
        DataError: it does not exist, has no samples, an empty class, a single class, two samples of one key, or
            classes that are not the teacher's.
        MissingObjectError: it is one of torchvision's data sets, and not downloaded.
    """
    url = url_of(config, part)
    setting = f"data.{part}" if url != config.data.train else "data.train"
    if not _is_tar(url):
        found = _found(config, part, url, setting)
        samples = _held_out(found.samples, config.data.holdout, part) if config.data.holdout else found.samples
        if not samples:
            raise DataError(f"data.holdout ({config.data.holdout}) leaves nothing for {part} in {url!r}; change it")
        return FolderSource(found.classes, _deal(samples, config.data.samples_per_shard))
    if config.data.holdout:
        raise DataError(f"data.holdout needs a folder of class folders, and {setting} is {url!r}; give data.eval")
    return _tars(url, setting, _known_classes(config, part) if labelled(config, part) else ())


def _found(config: Config, part: str, url: str, setting: str) -> Found:
    if is_torchvision(url):
        found = torchvision.find(parse_torchvision(url), config.data.download)
        return found if labelled(config, part) else torchvision.without_labels(found)
    if not labelled(config, part):
        return any_folder(url, setting)
    return class_folders(url, setting, _known_classes(config, part))


def _known_classes(config: Config, part: str) -> tuple[str, ...] | None:
    """Names in label order, as far as they are known before a part is looked at."""
    if not config.data.labels:
        return named_classes(config)
    train = config.data.train
    if part == "train" or config.data.classes is not None or _is_tar(train):
        return config.data.classes
    if is_torchvision(train):
        return torchvision.find(parse_torchvision(train), config.data.download).classes
    return class_names(train, "data.train")


def _held_out(samples: Sequence[FolderSample], share: float, part: str) -> list[FolderSample]:
    """The samples of a part where a share is held out: each by a draw of its own key, whatever else there is."""
    held = philox4x32((*split(_uids(samples)), 0, HOLDOUT), (0, 0))[0] < share * 2.0**32
    return [sample for sample, out in zip(samples, held, strict=True) if bool(out) == (part == "eval")]


def _is_tar(url: str) -> bool:
    return bool(danger(url)) or url.rstrip("}").endswith((".tar", ".tgz", ".tar.gz"))


def _tars(pattern: str, setting: str, classes: tuple[str, ...] | None) -> TarSource:
    urls = expand(pattern)
    for url in urls:
        if not url.endswith(".tar"):
            raise DataError(f"{setting}: {url} is compressed; samples are read by offset, so give plain .tar files")
        place, name = open_parent(url)
        if place.size(name) is None:
            raise DataError(f"{setting}: {url} does not exist")
    return TarSource(tuple(url if "://" in url else str(Path(url).absolute()) for url in urls), classes)


def _uids(samples: Sequence[FolderSample]) -> npt.NDArray[np.uint64]:
    return np.array([uid_of(sample.key) for sample in samples], np.uint64)


def _deal(samples: Sequence[FolderSample], per_shard: int) -> tuple[tuple[FolderSample, ...], ...]:
    """Samples in an order that depends on their keys alone, cut into data shards of nearly equal size."""
    low, high, _, _ = philox4x32((*split(_uids(samples)), 0, SHUFFLE), (0, 0))
    order = np.argsort(join(low, high), kind="stable")
    count = -(-len(samples) // per_shard)
    bounds = [shard * len(samples) // count for shard in range(count + 1)]
    return tuple(tuple(samples[place] for place in order[start:stop]) for start, stop in itertools.pairwise(bounds))
