"""Which source a part of the data has: folders, WebDataset tars that stay where they are, or a kind of `registry`."""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.rng.philox import join, philox4x32, split
from stillroom.pipeline.rng.seeds import HOLDOUT, SHUFFLE, uid_of
from stillroom.stages.ingest.class_names import labelled, named_classes
from stillroom.storage.dataset.webdataset import expand
from stillroom.storage.errors import DataError
from stillroom.storage.objects.urls import danger, open_parent

from .folders import any_folder, class_folders, class_names
from .listed import Found, ListedSample, refuse_same_keys
from .registry import source_kind, without_labels
from .source import ListedSource, Source, TarSource


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
        return ListedSource(found.classes, _deal(samples, config.data.samples_per_shard))
    if config.data.holdout:
        raise DataError(f"data.holdout needs a folder of class folders, and {setting} is {url!r}; give data.eval")
    return _tars(url, setting, _known_classes(config, part) if labelled(config, part) else ())


def _found(config: Config, part: str, url: str, setting: str) -> Found:
    kind = source_kind(url)
    if kind is not None:
        found = kind.find(config, url)
        refuse_same_keys(found.samples)
        return found if labelled(config, part) else without_labels(found)
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
    kind = source_kind(train)
    return class_names(train, "data.train") if kind is None else kind.find(config, train).classes


def _held_out(samples: Sequence[ListedSample], share: float, part: str) -> list[ListedSample]:
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


def _uids(samples: Sequence[ListedSample]) -> npt.NDArray[np.uint64]:
    return np.array([uid_of(sample.key) for sample in samples], np.uint64)


def _deal(samples: Sequence[ListedSample], per_shard: int) -> tuple[tuple[ListedSample, ...], ...]:
    """Samples in an order that depends on their keys alone, cut into data shards of nearly equal size."""
    low, high, _, _ = philox4x32((*split(_uids(samples)), 0, SHUFFLE), (0, 0))
    order = np.argsort(join(low, high), kind="stable")
    count = -(-len(samples) // per_shard)
    bounds = [shard * len(samples) // count for shard in range(count + 1)]
    return tuple(tuple(samples[place] for place in order[start:stop]) for start, stop in itertools.pairwise(bounds))
