"""Images in folders: walked, keyed by their paths, and labelled by their class folders where labels are wanted."""

import os
from pathlib import Path

from stillroom.storage.dataset.index import NO_LABEL
from stillroom.storage.errors import DataError

from .listed import Found, ListedSample, refuse_same_keys


def class_names(root: str, setting: str) -> tuple[str, ...]:
    """Names of the class folders, sorted.

    Raises:
        DataError: there is no such folder.
    """
    _refuse_no_folder(root, setting, "a folder of class folders")
    return tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")))


def class_folders(root: str, setting: str, classes: tuple[str, ...] | None) -> Found:
    """Images in class folders.

    Args:
        root: the folder of class folders.
        setting: that names it, for messages.
        classes: names in label order where they are known; else the folders', sorted.

    Raises:
        DataError: it does not exist, has an empty class, a single class, an unknown one, or two samples of one key.
    """
    found = class_names(root, setting)
    known = classes if classes is not None else found
    if not found:
        raise DataError(f"{setting} is {root!r}, which holds no class folders; put each class's images into a folder")
    if len(known) < 2:
        raise DataError(f"{setting} is {root!r}, which holds one class ({known[0]}); there must be two or more")
    samples: list[ListedSample] = []
    for name in found:
        if name not in known:
            raise DataError(
                f"{setting} has a class folder {name!r} that is not among the classes ({', '.join(known)}); "
                "remove it, or name it in data.classes"
            )
        files = _files(Path(root), Path(root) / name)
        if not files:
            raise DataError(f"{setting}: class folder {Path(root) / name} is empty; fill it or remove it")
        samples += [ListedSample(key, path, known.index(name), file_size(path)) for key, path in files]
    refuse_same_keys(samples)
    return Found(known, tuple(samples))


def any_folder(root: str, setting: str) -> Found:
    """Images at any depth of a folder, without labels, whatever its folders are called.

    Raises:
        DataError: it does not exist, holds no file, or two samples of one key.
    """
    _refuse_no_folder(root, setting, "a folder of images")
    samples = [ListedSample(key, path, NO_LABEL, file_size(path)) for key, path in _files(Path(root), Path(root))]
    if not samples:
        raise DataError(f"{setting} is {root!r}, which holds no files; put images into it")
    refuse_same_keys(samples)
    return Found((), tuple(samples))


def file_size(path: Path) -> int:
    """Bytes of a file; 0 for a broken link, or one to itself, which is rejected when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _refuse_no_folder(root: str, setting: str, wanted: str) -> None:
    if not Path(root).is_dir():
        if "://" in root:
            raise DataError(
                f"{setting} is {root!r}, a URL; folders of images are read from this machine's file system: give a "
                "path, or in an object store WebDataset tars, such as s3://bucket/{000..127}.tar"
            )
        raise DataError(f"{setting} is {root!r}, which is no folder; give {wanted}, or .tar files")


def _files(root: Path, top: Path) -> list[tuple[str, Path]]:
    """Key and path of everything under `top` that is no folder; hidden files are passed over.

    Broken links, links to folders and devices are among them: ingest rejects these by name.
    """
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(item for item in folders if not item.startswith("."))
        links = [item for item in folders if (Path(folder) / item).is_symlink()]  # which are not walked into
        for file in sorted([*files, *links]):
            if not file.startswith("."):
                path = Path(folder) / file
                found.append((path.relative_to(root).with_suffix("").as_posix(), path))
    return found
