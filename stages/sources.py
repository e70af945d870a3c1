"""Where images come from: a folder of class folders, or WebDataset tars that stay where they are."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..pipeline.config import Config
from ..pipeline.philox import join, philox4x32, split
from ..pipeline.seeds import HOLDOUT, SHUFFLE, uid_of
from ..storage.errors import DataError
from ..storage.fingerprint import canonical, digest
from ..storage.shards import expand
from ..storage.urls import danger, open_parent


@dataclass(frozen=True)
class FolderSample:
    """A file in a class folder."""

    key: str
    path: Path
    label: int
    size: int


@dataclass(frozen=True)
class FolderSource:
    """A folder of class folders, its files shuffled and dealt into data shards.

    Attributes:
        classes: names of the class folders, sorted; or those of the training data.
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
        classes: names in label order, where the config gives them.
    """

    urls: tuple[str, ...]
    classes: tuple[str, ...] | None

    @property
    def listing(self) -> str:
        return digest(canonical(list(self.urls)))


Source = FolderSource | TarSource


@lru_cache(maxsize=4)
def open_source(config: Config, part: str) -> Source:
    """The source of a part of the data, "train" or "eval". Looked at once per process.

    Raises:
        DataError: it does not exist, has no samples, an empty class, a single class, or two samples of one key.
    """
    url = config.data.eval if part == "eval" and config.data.eval is not None else config.data.train
    setting = f"data.{part}" if url != config.data.train else "data.train"
    classes = config.data.classes
    if part == "eval" and classes is None and not _is_tar(config.data.train):
        classes = _folders(config.data.train, "data.train")
    if not _is_tar(url):
        folder = _folder(url, setting, classes)
        samples = _held_out(folder.samples, config.data.holdout, part) if config.data.holdout else folder.samples
        if not samples:
            raise DataError(f"data.holdout ({config.data.holdout}) leaves nothing for {part} in {url!r}; change it")
        return FolderSource(folder.classes, _deal(samples, config.data.samples_per_shard))
    if config.data.holdout:
        raise DataError(f"data.holdout needs a folder of class folders, and {setting} is {url!r}; give data.eval")
    return _tars(url, setting, classes)


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


def _folders(root: str, setting: str) -> tuple[str, ...]:
    if not Path(root).is_dir():
        raise DataError(f"{setting} is {root!r}, which is no folder; give a folder of class folders, or .tar files")
    return tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")))


@dataclass(frozen=True)
class _Folder:
    classes: tuple[str, ...]
    samples: tuple[FolderSample, ...]


def _folder(root: str, setting: str, classes: tuple[str, ...] | None) -> _Folder:
    found = _folders(root, setting)
    known = classes if classes is not None else found
    if not found:
        raise DataError(f"{setting} is {root!r}, which holds no class folders; put each class's images into a folder")
    if len(known) < 2:
        raise DataError(f"{setting} is {root!r}, which holds one class ({known[0]}); there must be two or more")
    samples: list[FolderSample] = []
    for name in found:
        if name not in known:
            raise DataError(
                f"{setting} has a class folder {name!r} that is not among the classes ({', '.join(known)}); "
                "remove it, or name it in data.classes"
            )
        files = _files(Path(root), name)
        if not files:
            raise DataError(f"{setting}: class folder {Path(root) / name} is empty; fill it or remove it")
        samples += [FolderSample(key, path, known.index(name), _size(path)) for key, path in files]
    _refuse_same_keys(samples)
    return _Folder(known, tuple(samples))


def _files(root: Path, name: str) -> list[tuple[str, Path]]:
    """Key and path of everything under a class folder that is no folder; hidden files are passed over.

    Broken links, links to folders and devices are among them: ingest rejects these by name.
    """
    found = []
    for folder, folders, files in os.walk(root / name):
        folders[:] = sorted(item for item in folders if not item.startswith("."))
        links = [item for item in folders if (Path(folder) / item).is_symlink()]  # which are not walked into
        for file in sorted([*files, *links]):
            if not file.startswith("."):
                path = Path(folder) / file
                found.append((path.relative_to(root).with_suffix("").as_posix(), path))
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a broken link, or one to itself


def _refuse_same_keys(samples: Sequence[FolderSample]) -> None:
    seen: dict[int, FolderSample] = {}
    for sample in samples:
        try:
            uid = uid_of(sample.key)
        except UnicodeEncodeError as error:
            raise DataError(f"the name of {os.fsencode(sample.path)!r} is not UTF-8; rename the file") from error
        other = seen.setdefault(uid, sample)
        if other is not sample:
            what = "key" if other.key == sample.key else "uid"
            raise DataError(f"{other.path} and {sample.path} have one {what} ({sample.key}); rename one of them")


def _uids(samples: Sequence[FolderSample]) -> npt.NDArray[np.uint64]:
    return np.array([uid_of(sample.key) for sample in samples], np.uint64)


def _deal(samples: Sequence[FolderSample], per_shard: int) -> tuple[tuple[FolderSample, ...], ...]:
    """Samples in an order that depends on their keys alone, cut into data shards of nearly equal size."""
    low, high, _, _ = philox4x32((*split(_uids(samples)), 0, SHUFFLE), (0, 0))
    order = np.argsort(join(low, high), kind="stable")
    count = -(-len(samples) // per_shard)
    bounds = [shard * len(samples) // count for shard in range(count + 1)]
    return tuple(tuple(samples[place] for place in order[start:stop]) for start, stop in itertools.pairwise(bounds))
