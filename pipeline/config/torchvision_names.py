"""Names of torchvision's data sets as the config writes them: `torchvision:NAME?split=train+val`.

A closed list: those that keep plain image files on disk. Knows their names and splits; nothing of where they are.
"""

from dataclasses import dataclass

from stillroom.storage.errors import ConfigError

PREFIX = "torchvision:"
SPLITS: dict[str, tuple[str, ...]] = {
    "Caltech101": (),
    "Caltech256": (),
    "Country211": ("train", "valid", "test"),
    "DTD": ("train", "val", "test"),
    "EuroSAT": (),
    "FGVCAircraft": ("train", "val", "trainval", "test"),
    "Flowers102": ("train", "val", "test"),
    "Food101": ("train", "test"),
    "ImageNet": ("train", "val"),
    "Imagenette": ("train", "val"),
    "OxfordIIITPet": ("trainval", "test"),
    "SUN397": (),
    "StanfordCars": ("train", "test"),
}
"""Splits of each, as torchvision names them; none where it is not split."""


@dataclass(frozen=True)
class TorchvisionData:
    """Some of a data set's images.

    Attributes:
        name: torchvision's class.
        splits: those that are joined, in order; empty where it is not split.
    """

    name: str
    splits: tuple[str, ...]


def is_torchvision(url: str) -> bool:
    """Whether a source is meant to be one of torchvision's."""
    return url.startswith(PREFIX)


def parse_torchvision(url: str) -> TorchvisionData:
    """The data set and the splits that a source names.

    Raises:
        ConfigError: no such data set or split is known; lists those that are.
    """
    name, question, query = url.removeprefix(PREFIX).partition("?")
    if name not in SPLITS:
        raise ConfigError(f"{url!r}: torchvision's data set {name!r} is not among those known: {', '.join(SPLITS)}")
    known = SPLITS[name]
    if not known:
        if question:
            raise ConfigError(
                f"{url!r}: {name} has no splits; write {PREFIX}{name}, and hold out a share for evaluation"
            )
        return TorchvisionData(name, ())
    key, _, value = query.partition("=")
    splits = tuple(value.split("+")) if key == "split" else ()
    wrong = [split for split in splits if split not in known]
    if not splits or wrong or len(set(splits)) < len(splits):
        said = f"its split {wrong[0]!r} is not known" if wrong else "say which splits, each once"
        raise ConfigError(
            f"{url!r}: {said}; splits of {name}: {', '.join(known)}, joined by +, "
            f"as in {PREFIX}{name}?split={'+'.join(known[:2])}"
        )
    return TorchvisionData(name, splits)
