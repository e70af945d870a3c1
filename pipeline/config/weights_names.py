"""Where a teacher's weights come from, as a config names it: a file, a hub's file, a library, or a program's module.

Names alone: nothing is looked for here, and neither torch nor a library of models is imported.
"""

import re
from dataclasses import dataclass

from stillroom.storage.errors import ConfigError

PRETRAINED = "pretrained"
HUB = "hf://"
PYTHON = "python"
"""In place of a library: a module that a Python program hands to `stillroom.teacher`."""
WHOLE = (None, "state_dict")
"""Of a checkpoint's keys, those that the first version took: a fingerprint does not mention them."""
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./+-]+?)(?:@(?P<revision>[\w./-]+))?")
_QUERY = re.compile(r"weights=(?P<entry>\w+)")


@dataclass(frozen=True)
class LocalFile:
    """A file at hand, or to be put there."""

    path: str


@dataclass(frozen=True)
class HubFile:
    """A file of a repository of models on the Hugging Face hub.

    Attributes:
        repo: "org/name".
        file: its path in the repository.
        revision: a branch, a tag or a commit.
    """

    repo: str
    file: str
    revision: str


@dataclass(frozen=True)
class Pretrained:
    """The weights that a library has for one of its models.

    Attributes:
        library: "timm" or "torchvision".
        model: its name there; timm's with its tag, if any.
        entry: which of torchvision's weights, such as "IMAGENET1K_V2"; None for its default.
    """

    library: str
    model: str
    entry: str | None = None


def parse_weights(model: str, weights: str) -> LocalFile | HubFile | Pretrained | None:
    """What a teacher's `weights` name; None for a model of `PYTHON`, which has none.

    Args:
        model: the teacher's, as the config names it.
        weights: the teacher's, as the config names them.

    Raises:
        ConfigError: they name nothing; says what would.
    """
    library, _, name = model.partition(":")
    name, question, query = name.partition("?")
    if library == PYTHON:
        if weights:
            raise ConfigError(
                f"weights = {weights!r} and model = {model!r}: the module that stillroom.teacher is given has its "
                "weights already; leave weights out"
            )
        return None
    if question and (library != "torchvision" or weights != PRETRAINED):
        raise ConfigError(
            f'model {model!r}: "?weights=…" chooses among torchvision\'s pretrained weights; it goes with '
            'model = "torchvision:NAME?weights=…" and weights = "pretrained"'
        )
    if weights == PRETRAINED:
        if library not in ("timm", "torchvision"):
            raise ConfigError(
                f'weights = "pretrained": library {library!r} brings none; give a file, or use timm or torchvision'
            )
        entry = _QUERY.fullmatch(query)
        if question and entry is None:
            raise ConfigError(f'model {model!r}: write "torchvision:NAME?weights=IMAGENET1K_V1"')
        return Pretrained(library, name, entry["entry"] if entry else None)
    if weights.startswith(HUB):
        found = _HUB.fullmatch(weights)
        if found is None or ".." in found["file"].split("/"):
            raise ConfigError(
                f'weights {weights!r} are no file of a hub; write "hf://org/repo/file.safetensors@revision"'
            )
        return HubFile(found["repo"], found["file"], found["revision"] or "main")
    return LocalFile(weights)


def architecture(model: str) -> str:
    """A model's name without the choice of its weights."""
    return model.partition("?")[0]
