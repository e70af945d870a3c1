"""Data shards: WebDataset tars, written the same way each time and read by offset.

Knows member names, sizes and offsets; nothing of what an image is.
"""

import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

import webdataset as wds
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from stillroom.storage.errors import DataError
from stillroom.storage.objects.urls import danger
from stillroom.storage.spill.byte_spool import Slices, Spool

from .tar_headers import FOLDER, Entry, entries

_ESCAPED = re.compile(r"[%.]")
_PASSED_OVER = re.compile(r"__[^/]*__($|/)")
"""What WebDataset takes for notes about the tar itself."""
_LONGEST_NAME = 4096
_BRACES = re.compile(r"\{[^{}]*\}")
_MOST_TARS = 1_000_000


@dataclass(frozen=True)
class Member:
    """Where one file's bytes lie in a tar."""

    offset: int
    size: int


@dataclass
class TarSample:
    """One sample.

    Attributes:
        key: as it stands in the tar.
        members: by extension in lower case.
        fault: why it cannot be used; empty where nothing speaks against it.
    """

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    fault: str = ""


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


def pack(samples: Iterable[tuple[str, dict[str, bytes]]], within: int = sys.maxsize) -> Spool:
    """A WebDataset tar of (key, {extension: bytes}), byte-identical from run to run.

    Args:
        samples: taken one by one.
        within: bytes of memory for the tar; see `Spool`.
    """
    sink = Spool(within)
    # One fixed owner, mode and time: the bytes depend on the samples alone.
    writer = wds.TarWriter(sink, encoder=False, mtime=0.0, user="stillroom", group="stillroom", mode=0o644)
    for key, files in samples:
        writer.write({"__key__": member_key(key), **files})
    writer.close()
    return sink


def scan_tar(data: Slices, name: str) -> Iterator[TarSample]:
    """The samples of a tar in order, with their members' places.

    Folders, and names that WebDataset would not read, are passed over. A member that is no plain file, or whose name
    could not be a path, makes its sample faulty: it is not lost without a word.

    Args:
        data: the whole tar.
        name: of the tar, for messages.

    Raises:
        DataError: the tar is damaged or cut short, or holds a member twice in a row.
    """
    current: TarSample | None = None
    for entry in entries(data, name):
        prefix, extension = (None, None) if _PASSED_OVER.match(entry.name) else base_plus_ext(entry.name)
        if entry.odd == FOLDER or not prefix or not extension:
            continue
        if current is None or current.key != prefix:
            if current is not None:
                yield current
            current = TarSample(prefix)
        if extension.lower() in current.members:
            raise DataError(f"{name} holds {shown(entry.name)} twice in a row; each member of a sample needs its name")
        current.members[extension.lower()] = Member(entry.offset, entry.size)
        current.fault = current.fault or _fault(entry)
    if current is not None:
        yield current


def _fault(entry: Entry) -> str:
    """Why a member cannot be used."""
    if entry.odd:
        return f"its member {shown(entry.name)} is {entry.odd}; only plain files are read"
    if len(entry.name) > _LONGEST_NAME:
        return f"the name of a member has {len(entry.name)} characters; paths have at most {_LONGEST_NAME}"
    if entry.name.startswith("/") or ".." in entry.name.split("/"):
        return f"its member {shown(entry.name)} points out of the tar; give it a name relative to the tar"
    if "\0" in entry.name:
        return f"the name of its member {shown(entry.name)} holds a NUL"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return f"the name of its member {shown(entry.name)} is not UTF-8"
    return ""


def shown(name: str) -> str:
    """A name for a message: any string comes out as one line of valid text, and a long one cut."""
    plain = name if name.isprintable() else name.encode("unicode_escape", "backslashreplace").decode()
    return plain if len(plain) <= 200 else f"{plain[:200]}…"


def expand(pattern: str) -> list[str]:
    """The tars that a pattern with WebDataset's braces names, in order.

    Raises:
        DataError: the pattern is a command (`pipe:`), which is never run; its braces do not match, or stand for
            too many tars.
    """
    _refuse_danger(pattern, pattern.split("::"))
    count = math.prod(_alternatives(braces) for braces in _BRACES.findall(pattern))
    if count > _MOST_TARS:
        raise DataError(f"{pattern!r} stands for {count:.3g} tars; at most {_MOST_TARS} are taken")
    try:
        urls = list(expand_urls(pattern))
    except (ValueError, AssertionError) as error:  # braces that do not match; a variable that is not set
        raise DataError(f"{pattern!r} is no pattern of tars: {error}") from error
    _refuse_danger(pattern, urls)  # braces and variables may spell it
    return urls


def _alternatives(braces: str) -> int:
    ends = re.fullmatch(r"\{(\d+)\.\.(\d+)(\.\.\d+)?\}", braces)
    return abs(int(ends[2]) - int(ends[1])) + 1 if ends else braces.count(",") + 1


def _refuse_danger(pattern: str, urls: Iterable[str]) -> None:
    for url in urls:
        if reason := danger(url):
            raise DataError(f"{pattern!r} {reason}, which is never done; give the path or URL of a tar")
