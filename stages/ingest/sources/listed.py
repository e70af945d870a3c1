"""Images that a source lists before any is read: each with its key, its label and its size, and how to read it."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillroom.pipeline.rng.seeds import uid_of
from stillroom.storage.errors import DataError


class UnusableError(Exception):
    """An image cannot be read; its text says why. It is rejected, and the others are not."""


@dataclass(frozen=True)
class ListedSample:
    """An image, in a file of its own unless a subclass reads it from elsewhere.

    Attributes:
        key: unique in its data set; of a file, its path without extension, relative to the folder it was found from.
        path: where it is, for messages too.
        label: index into the classes, or NO_LABEL.
        size: bytes.
    """

    key: str
    path: Path
    label: int
    size: int

    def read(self, largest: int) -> bytes:
        """The encoded image.

        Args:
            largest: bytes at most; a larger one is not read.

        Raises:
            UnusableError: it is larger, or is no plain file.
            OSError: it cannot be read.
        """
        # A FIFO would be waited for, and a device need not end.
        status = self.path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError("no plain file")
        if status.st_size > largest:
            raise UnusableError(too_large(status.st_size, largest))
        return self.path.read_bytes()


@dataclass(frozen=True)
class Found:
    """What a source lists.

    Attributes:
        classes: names in label order; empty without labels.
        samples: in an order of its own; data shards do not depend on it.
    """

    classes: tuple[str, ...]
    samples: tuple[ListedSample, ...]


def too_large(size: int, largest: int) -> str:
    """Why an encoded image of that many bytes is not looked at."""
    return f"has {size} bytes; data.max_pixels allows for {largest}"


def refuse_same_keys(samples: Sequence[ListedSample]) -> None:
    """Refuse samples of one key or uid; names both files."""
    seen: dict[int, ListedSample] = {}
    for sample in samples:
        try:
            uid = uid_of(sample.key)
        except UnicodeEncodeError as error:
            raise DataError(f"the name of {os.fsencode(sample.path)!r} is not UTF-8; rename the file") from error
        other = seen.setdefault(uid, sample)
        if other is not sample:
            what = "key" if other.key == sample.key else "uid"
            raise DataError(f"{other.path} and {sample.path} have one {what} ({sample.key}); rename one of them")
