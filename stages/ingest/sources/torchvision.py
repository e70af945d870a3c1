"""torchvision's data sets as files: it downloads and lists them, and what is taken are the files' own bytes.

Downloading is done by `fetch` alone, into a hidden folder first, so that what lies in its place is whole.
"""

import fcntl
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.torchvision_names import TorchvisionData
from stillroom.storage.errors import DataError, MissingObjectError

from .folders import file_size
from .listed import Found, ListedSample, refuse_same_keys

_Pairs = Iterable[tuple[str | Path, int]]
_BROKEN = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    HTTPException,
)
"""What torchvision raises where files are not there, cannot be fetched, or are not what they should be."""


def _listed(data: Any) -> _Pairs:
    return zip(data._image_files, data._labels, strict=True)


def _caltech(folder: str, name: str) -> Callable[[Any], _Pairs]:
    """Its images are numbered from 1 in each category; `name` is of the category's number, from 1, and the image's."""

    def pairs(data: Any) -> _Pairs:
        for label, number in zip(data.y, data.index, strict=True):
            yield Path(data.root) / folder / data.categories[label] / name.format(label + 1, number), label

    return pairs


@dataclass(frozen=True)
class _Kind:
    """How one of torchvision's classes says what it has.

    Attributes:
        folder: of the data set, in the folder of downloads; keys are relative to it.
        pairs: path and label of each image.
        names: attribute with the classes' names.
        by_hand: torchvision downloads nothing: what the user must put into `folder`.
    """

    folder: str
    pairs: Callable[[Any], _Pairs] = _listed
    names: str = "classes"
    by_hand: str = ""


def _samples(data: Any) -> _Pairs:
    return data.samples  # type: ignore[no-any-return]


def _private_samples(data: Any) -> _Pairs:
    return data._samples  # type: ignore[no-any-return]


_KINDS = {
    "Caltech101": _Kind("caltech101", _caltech("101_ObjectCategories", "image_{1:04d}.jpg"), "categories"),
    "Caltech256": _Kind("caltech256", _caltech("256_ObjectCategories", "{0:03d}_{1:04d}.jpg"), "categories"),
    "Country211": _Kind("country211", _samples),
    "DTD": _Kind("dtd"),
    "EuroSAT": _Kind("eurosat", _samples),
    "FGVCAircraft": _Kind("fgvc-aircraft-2013b"),
    "Flowers102": _Kind("flowers-102"),
    "Food101": _Kind("food-101"),
    # Two pairs of its classes have one name; their WordNet numbers are unique.
    "ImageNet": _Kind("imagenet", _samples, "wnids", "ILSVRC2012_devkit_t12.tar.gz and ILSVRC2012_img_{split}.tar"),
    "Imagenette": _Kind("imagenette2", _private_samples, "wnids"),
    "OxfordIIITPet": _Kind("oxford-iiit-pet", lambda data: zip(data._images, data._labels, strict=True)),
    "SUN397": _Kind("SUN397"),
    "StanfordCars": _Kind("stanford_cars", _private_samples, by_hand="devkit/ and cars_{split}/"),
}
_LISTS_IN_MATLAB = ("Flowers102", "ImageNet", "StanfordCars")
_ARCHIVES = "ImageNet"
"""Unpacks archives that lie in its folder, beside them."""


def find(what: TorchvisionData, download: str) -> Found:
    """The images of a data set that is there. Nothing is written.

    Raises:
        MissingObjectError: it is not there.
        DataError: it is not what torchvision expects; or its splits overlap or have different classes.
    """
    _need_scipy(what.name)
    kind, root = _KINDS[what.name], Path(download).absolute()
    samples: list[ListedSample] = []
    classes: tuple[str, ...] = ()
    for split in _splits(what):
        if not _present(what.name, split, root):
            raise MissingObjectError(
                f"torchvision's {what.name} is not in {root / kind.folder}; `stillroom ingest` gets it there"
            )
        data = _opened(what.name, split, root)
        names = tuple(str(name) for name in getattr(data, kind.names))
        if classes not in ((), names):
            raise DataError(f"splits {', '.join(what.splits)} of {what.name} have different classes; take one of them")
        classes = names
        for path, label in kind.pairs(data):
            key = Path(path).relative_to(root / kind.folder).with_suffix("").as_posix()
            samples.append(ListedSample(key, Path(path), int(label), file_size(Path(path))))
    if len({sample.path for sample in samples}) < len(samples):
        raise DataError(f"splits {', '.join(what.splits)} of {what.name} share images; name each image once")
    refuse_same_keys(samples)
    return Found(classes, tuple(samples))


def fetch(what: TorchvisionData, download: str) -> None:
    """Have torchvision download what is not there yet. Several processes do it once.

    Raises:
        DataError: it cannot be downloaded; says where to put the files.
    """
    _need_scipy(what.name)
    root = Path(download).absolute()
    if all(_present(what.name, split, root) for split in _splits(what)):
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            for split in _splits(what):
                if not _present(what.name, split, root):
                    _get(what.name, split, root)
    except _BROKEN as error:
        kind = _KINDS[what.name]
        there = root / kind.folder
        needed = f"get {kind.by_hand} from its makers, and put them" if kind.by_hand else "put its files, unpacked,"
        splits = " or ".join(what.splits)
        raise DataError(
            f"torchvision's {what.name} is not in {there}, and could not be had ({_first(error)}); "
            f"{needed.format(split=splits)} into {there}, as torchvision.datasets.{what.name} lays them out"
        ) from error


def _need_scipy(name: str) -> None:
    """Said before anything is downloaded."""
    if name in _LISTS_IN_MATLAB and find_spec("scipy") is None:
        raise DataError(f"torchvision reads the lists of {name} with scipy, which is not installed; pip install scipy")


def _splits(what: TorchvisionData) -> Sequence[str | None]:
    return what.splits or (None,)


def _present(name: str, split: str | None, root: Path) -> bool:
    """Whether there is anything to open. Files in it may still be missing, which is said by name when they are read."""
    folder = root / _KINDS[name].folder
    if name == _ARCHIVES:
        return (folder / str(split)).is_dir() and (folder / "meta.bin").is_file()
    return folder.is_dir()


def _opened(name: str, split: str | None, root: Path) -> Any:
    """torchvision's object over files that are there.

    Raises:
        DataError: they are not what it expects.
    """
    try:
        return _built(name, split, root, download=False)
    except _BROKEN as error:
        there = root / _KINDS[name].folder
        raise DataError(
            f"{there} is not what torchvision.datasets.{name} expects ({_first(error)}); "
            "put the missing files there, or remove it to have it downloaded again"
        ) from error


def _built(name: str, split: str | None, root: Path, *, download: bool) -> Any:
    import torchvision.datasets  # takes seconds

    known = {} if split is None else {"split": split}
    if name == _ARCHIVES:
        return torchvision.datasets.ImageNet(str(root / _KINDS[name].folder), **known)
    return getattr(torchvision.datasets, name)(str(root), download=download, **known)


def _get(name: str, split: str | None, folder: Path) -> None:
    """Download or unpack into a hidden folder, and move what is whole to its place."""
    kind = _KINDS[name]
    place, work = folder / kind.folder, folder / f".incomplete-{name}"
    shutil.rmtree(work, ignore_errors=True)  # of an attempt that was killed: torchvision would take it for whole
    made = work / kind.folder
    made.mkdir(parents=True)
    try:
        if name == _ARCHIVES:
            for archive in [*place.glob("*.tar"), *place.glob("*.tar.gz"), *place.glob("meta.bin")]:
                (made / archive.name).symlink_to(archive.absolute())
            _built(name, split, work, download=False)
            for part in ("meta.bin", str(split)):
                if not (place / part).exists():
                    (made / part).rename(place / part)
            return
        made.rmdir()
        _built(name, split, work, download=True)
        made.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
