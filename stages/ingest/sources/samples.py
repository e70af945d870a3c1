"""Reading the samples of a source, one data shard at a time: key, label and encoded image of each."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xxhash

from stillroom.pipeline.images.verdict import Rejected
from stillroom.storage.dataset.index import NO_LABEL
from stillroom.storage.dataset.webdataset import Member, TarSample, original_key, scan_tar, shown
from stillroom.storage.spill.byte_spool import Slices

from .listed import ListedSample, UnusableError, too_large

_IMAGES = ("jpg", "jpeg", "png", "webp")
_MAGIC = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
_NOWHERE = Member(0, 0)
_SMALL_FILE = 16 * 2**20
_LABEL_LIMIT = 2**20
"""Bytes of a .cls or .json at most."""
_MOST_CLASSES = 2**20
"""A larger label is a mistake; where no classes are given, there would be a name for each number below it."""


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        key: unique in its data set.
        label: index into the classes, or NO_LABEL.
        image: uint8 [bytes], encoded; empty once it is not needed any more.
        digest: xxh3-64 of the image.
        member: where it lies in its tar.
    """

    key: str
    label: int
    image: npt.NDArray[np.uint8]
    digest: int
    member: Member = _NOWHERE

    def files(self) -> dict[str, bytes]:
        """Its files in a WebDataset tar, by extension."""
        data = self.image.tobytes()
        extension = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), "jpg")
        return {extension: data} | ({"cls": b"%d" % self.label} if self.label != NO_LABEL else {})

    def without_image(self) -> "Sample":
        # A slice of it would keep all of it.
        return replace(self, image=np.empty(0, np.uint8))

    def with_image(self, image: npt.NDArray[np.uint8]) -> "Sample":
        """The same with another image."""
        return replace(self, image=image, digest=xxhash.xxh3_64_intdigest(image.data))

    def at(self, member: Member) -> "Sample":
        return replace(self, member=member)


@dataclass(frozen=True)
class Unusable:
    """A sample that is rejected before its image is looked at."""

    key: str
    verdict: Rejected


def from_list(samples: Sequence[ListedSample], largest: int) -> Iterator[Sample | Unusable]:
    """The samples of a data shard of a listed source, in order.

    Args:
        samples: which.
        largest: bytes of an encoded image at most; a larger one is not read.
    """
    for item in samples:
        try:
            yield _sample(item.key, item.label, item.read(largest))
        except UnusableError as error:
            yield Unusable(item.key, Rejected(str(error)))
        except OSError as error:
            yield Unusable(item.key, Rejected(f"cannot be read: {error.strerror or error}"))


def from_tar(tar: Slices, url: str, classes: tuple[str, ...] | None, largest: int) -> Iterator[Sample | Unusable]:
    """The samples of a tar in order.

    Args:
        tar: all of it.
        url: of the tar, for messages.
        classes: names in label order, where they are known; empty where labels are not looked at.
        largest: bytes of an encoded image at most.

    Raises:
        DataError: the tar is damaged.
    """
    for found in scan_tar(tar, url):
        key = original_key(found.key)
        image = next((found.members[extension] for extension in _IMAGES if extension in found.members), None)
        if found.fault:
            yield Unusable(shown(key), Rejected(found.fault))
        elif image is None:
            there = ", ".join(sorted(found.members)[:8])
            yield Unusable(key, Rejected(f"no image among its members ({shown(there)})"))
        elif image.size > largest:
            yield Unusable(key, Rejected(too_large(image.size, largest)))
        elif (label := NO_LABEL if classes == () else _label(found, tar, classes)) is None:
            yield Unusable(key, Rejected("no label: neither a .cls with a number nor a .json with a label"))
        elif label >= _MOST_CLASSES:
            yield Unusable(key, Rejected(f"its label is {label}; labels are below {_MOST_CLASSES}"))
        else:
            yield _sample(key, label, tar[image.offset : image.offset + image.size], image)


def largest_file(max_pixels: int) -> int:
    """Bytes of an encoded image at most, where it has that many pixels at most."""
    return max(_SMALL_FILE, 4 * max_pixels)


def _sample(key: str, label: int, data: bytes, member: Member = _NOWHERE) -> Sample:
    image = np.frombuffer(data, np.uint8)
    return Sample(key, label, image, xxhash.xxh3_64_intdigest(data), member)


def _label(sample: TarSample, tar: Slices, classes: tuple[str, ...] | None) -> int | None:
    """The label as WebDataset stores it: a number in `.cls`, or "label" or "cls" in `.json`; or a class's name."""
    for extension in ("cls", "json"):
        member = sample.members.get(extension)
        if member is None or member.size > _LABEL_LIMIT:
            continue
        text = tar[member.offset : member.offset + member.size].decode(errors="replace").strip()
        if extension == "json":
            try:
                fields = json.loads(text)
            except (ValueError, RecursionError):
                continue
            text = str(fields.get("label", fields.get("cls", ""))) if isinstance(fields, dict) else ""
        if text.isdecimal() and len(text) < 20:
            return int(text)
        if classes is not None and text in classes:
            return classes.index(text)
    return None
