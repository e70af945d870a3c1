"""From a URL to the place it names."""

from pathlib import Path

import fsspec

from .errors import StoreError
from .localplace import LocalPlace
from .place import Place
from .remoteplace import RemotePlace


def open_place(url: str) -> Place:
    """The place at `url`: a path, `file://…`, or any URL that fsspec knows, such as `s3://bucket/prefix`.

    Raises:
        StoreError: fsspec does not know the protocol, or its package is not installed.
    """
    if url.startswith("file://"):
        return LocalPlace(Path(url.removeprefix("file://")))
    if "://" not in url:
        return LocalPlace(Path(url))
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(f"{url} cannot be opened: {error}") from error
    return RemotePlace(filesystem, root, url)


def open_parent(url: str) -> tuple[Place, str]:
    """The place that holds one object, and the object's name there."""
    folder, slash, name = url.rpartition("/")
    return open_place(folder or slash or "."), name
