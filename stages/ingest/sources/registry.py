"""Kinds of sources by what stands before the colon of `data.train`: torchvision's, and those that packages bring.

A package brings one by an entry point of the group `stillroom.sources`, which names its `SourceKind`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.torchvision_names import is_torchvision, parse_torchvision
from stillroom.storage.dataset.index import NO_LABEL

from . import torchvision
from .listed import Found

GROUP = "stillroom.sources"


@dataclass(frozen=True)
class SourceKind:
    """How images of a kind of source are found.

    Attributes:
        find: from the config, and a URL such as "NAME:what", to what is there. Reads no image, writes nothing.
        fetch: has it downloaded first, where that is needed; called once, before any task.
    """

    find: Callable[[Config, str], Found]
    fetch: Callable[[Config, str], None] | None = None


def source_kind(url: str) -> SourceKind | None:
    """The kind of a source; None for folders and tars."""
    name, colon, _ = url.partition(":")
    if is_torchvision(url):
        return _TORCHVISION
    if not colon or "://" in url:
        return None
    for point in entry_points(group=GROUP, name=name):
        kind: SourceKind = point.load()
        return kind
    return None


def without_labels(found: Found) -> Found:
    """The same images, and nothing said of what they show."""
    return Found((), tuple(replace(sample, label=NO_LABEL) for sample in found.samples))


_TORCHVISION = SourceKind(
    find=lambda config, url: torchvision.find(parse_torchvision(url), config.data.download),
    fetch=lambda config, url: torchvision.fetch(parse_torchvision(url), config.data.download),
)
