"""From a URL to the place it names."""

import re
from pathlib import Path

from stillroom.storage.errors import StoreError

from .base import Place
from .fsspec_clients import FileSystem
from .local import LocalPlace
from .remote import RemotePlace

_COMMAND = re.compile(r"(^|[{,;\s]|::)\s*pipe:", re.IGNORECASE)
_RUNS_CODE = frozenset({"reference", "dask", "generic", "git", "dvc", "jupyter", "jlab", "pyscript"})
"""File systems of fsspec that evaluate templates, run a program or hand work to another machine."""
_CREDENTIALS = re.compile(r"://([^/@]*:[^@]*|[^/@]*)@")
"""A key and a secret before a bucket's name. A secret may hold slashes; a bucket's name holds no colon."""


def shown(url: str) -> str:
    """A URL as it may be printed: without credentials."""
    return _CREDENTIALS.sub("://…@", url)


def danger(url: str) -> str:
    """Why a URL is never opened, as the end of a sentence; empty where nothing speaks against it."""
    if _COMMAND.search(url):
        return "would run a command"
    if "://" not in url:
        return ""
    if _CREDENTIALS.search(url):
        return "holds credentials, which are taken from the environment alone: using them"
    if "::" in url:
        return "is a chain of file systems"
    scheme = url.partition("://")[0].strip().lower()
    return f"is of a file system that can run code ({scheme})" if scheme in _RUNS_CODE else ""


def open_place(url: str) -> Place:
    """The place at `url`: a path, `file://…`, or any URL that fsspec knows, such as `s3://bucket/prefix`.

    Raises:
        StoreError: fsspec does not know the protocol, or its package is not installed; or it could run code, or holds
            credentials.
    """
    if reason := danger(url):
        raise StoreError(
            f"{shown(url)!r} {reason}, which is never done; give a path, or a plain URL such as s3://bucket/prefix"
        )
    if url.startswith("file://"):
        return LocalPlace(Path(url.removeprefix("file://")))
    if "://" not in url:
        return LocalPlace(Path(url))
    opened = FileSystem(url)
    return RemotePlace(opened, opened.root(), url, opened.retry())


def open_parent(url: str) -> tuple[Place, str]:
    """The place that holds one object, and the object's name there."""
    folder, slash, name = url.rpartition("/")
    return open_place(folder or slash or "."), name
