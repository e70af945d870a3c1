"""Data shards: WebDataset tars, written the same way each time and read by offset.

Knows member names, sizes and offsets; nothing of what an image is.
"""

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO
from urllib.parse import unquote

import webdataset as wds
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from .errors import DataError

_ESCAPED = re.compile(r"[%.]")
_PASSED_OVER = re.compile(r"__[^/]*__($|/)")
"""What WebDataset takes for notes about the tar itself."""


@dataclass(frozen=True)
class Member:
    """Where one file's bytes lie in a tar."""

    offset: int
    size: int


@dataclass
class TarSample:
    """The members of one sample, by extension in lower case."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)


def member_key(key: str) -> str:
    """A sample's key as WebDataset will read it back.

    WebDataset ends a key at the first dot of the file's name, and passes over names that open with `__…__`; so dots in
    the file's name, a leading underscore, and the percent sign are escaped.
    """
    folder, slash, name = key.rpartition("/")
    escaped = f"{folder}{slash}".replace("%", "%25") + _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", name)
    return f"%5F{escaped[1:]}" if escaped.startswith("__") else escaped


def original_key(key: str) -> str:
    """The inverse of `member_key`; other people's keys come back as they are, unless they hold such escapes."""
    return re.sub(r"%2E|%25|%5F", lambda match: unquote(match[0]), key)


def tar_bytes(samples: Iterable[tuple[str, dict[str, bytes]]]) -> bytes:
    """A WebDataset tar of (key, {extension: bytes}), byte-identical from run to run."""
    sink = io.BytesIO()
    # One fixed owner, mode and time: the bytes depend on the samples alone.
    writer = wds.TarWriter(sink, encoder=False, mtime=0.0, user="stillroom", group="stillroom", mode=0o644)
    for key, files in samples:
        writer.write({"__key__": member_key(key), **files})
    writer.close()
    return sink.getvalue()


def scan_tar(file: IO[bytes], name: str) -> Iterator[TarSample]:
    """The samples of a tar in order, with their members' places; bytes of members are not read.

    Members that are no plain files, and names that WebDataset would not read, are passed over.

    Raises:
        DataError: the tar is damaged or cut short.
    """
    current: TarSample | None = None
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                plain = info.isreg() and not _PASSED_OVER.match(info.name)
                prefix, extension = base_plus_ext(info.name) if plain else (None, None)
                if not prefix or not extension:
                    continue
                if current is None or current.key != prefix:
                    if current is not None:
                        yield current
                    current = TarSample(prefix)
                if extension.lower() in current.members:
                    raise DataError(f"{name} holds {info.name} twice in a row; each member of a sample needs its name")
                current.members[extension.lower()] = Member(info.offset_data, info.size)
            # Python's reader takes a file that just stops for one that ends there.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise DataError(f"{name} is cut short: no end-of-archive block at byte {tar.offset}")
    except tarfile.TarError as error:
        raise DataError(f"{name} is not a readable tar: {error}") from error
    if current is not None:
        yield current


def expand(pattern: str) -> list[str]:
    """The tars that a pattern with WebDataset's braces names, in order.

    Raises:
        DataError: the pattern is a command (`pipe:`), which is never run.
    """
    if pattern.startswith("pipe:"):
        raise DataError(f"{pattern!r} would run a command; give the path or URL of a tar")
    return list(expand_urls(pattern))
