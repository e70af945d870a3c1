"""Reading the samples of a source, one data shard at a time: key, label and encoded image of each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xxhash

from ..pipeline.accept import Rejected
from ..storage.place import Place
from ..storage.shards import Member, TarSample, original_key, scan_tar
from ..storage.urls import open_parent
from .sources import FolderSource, Source, TarSource

_IMAGES = ("jpg", "jpeg", "png", "webp")
_MAGIC = {b"\xff\xd8": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}
_NOWHERE = Member(0, 0)


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        key: unique in its data set.
        label: index into the classes.
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
        return {extension: data, "cls": b"%d" % self.label}

    def without_image(self) -> "Sample":
        return replace(self, image=self.image[:0])

    def at(self, member: Member) -> "Sample":
        return replace(self, member=member)


@dataclass(frozen=True)
class Unusable:
    """A sample that is rejected before its image is looked at."""

    key: str
    verdict: Rejected


def read_samples(source: Source, shard: int) -> Iterator[Sample | Unusable]:
    """The samples of a data shard in order.

    Raises:
        DataError: a tar is damaged.
    """
    return _from_folder(source, shard) if isinstance(source, FolderSource) else _from_tar(source, shard)


def _sample(key: str, label: int, data: bytes, member: Member = _NOWHERE) -> Sample:
    image = np.frombuffer(data, np.uint8)
    return Sample(key, label, image, xxhash.xxh3_64_intdigest(data), member)


def _from_folder(source: FolderSource, shard: int) -> Iterator[Sample | Unusable]:
    for item in source.shards[shard]:
        try:
            yield _sample(item.key, item.label, item.path.read_bytes())
        except OSError as error:
            yield Unusable(item.key, Rejected(f"cannot be read: {error.strerror}"))


def _from_tar(source: TarSource, shard: int) -> Iterator[Sample | Unusable]:
    url = source.urls[shard]
    place, name = open_parent(url)
    with place.open(name) as file:
        for found in scan_tar(file, url):
            key = original_key(found.key)
            image = next((found.members[extension] for extension in _IMAGES if extension in found.members), None)
            label = _label(found, place, name, source.classes)
            if image is None:
                yield Unusable(key, Rejected(f"no image among its members ({', '.join(sorted(found.members))})"))
            elif label is None:
                yield Unusable(key, Rejected("no label: neither a .cls with a number nor a .json with a label"))
            else:
                data = place.read_range(name, image.offset, image.offset + image.size)
                yield _sample(key, label, data, image)


def _label(sample: TarSample, place: Place, name: str, classes: tuple[str, ...] | None) -> int | None:
    """The label as WebDataset stores it: a number in `.cls`, or "label" or "cls" in `.json`; or a class's name."""
    for extension in ("cls", "json"):
        member = sample.members.get(extension)
        if member is None:
            continue
        text = place.read_range(name, member.offset, member.offset + member.size).decode(errors="replace").strip()
        if extension == "json":
            try:
                fields = json.loads(text)
            except ValueError:
                continue
            text = str(fields.get("label", fields.get("cls", ""))) if isinstance(fields, dict) else ""
        if text.isdecimal():
            return int(text)
        if classes is not None and text in classes:
            return classes.index(text)
    return None
