"""The local file of a teacher's weights: where it is if it is at hand, and fetching it where it is not.

Only `fetch` uses a network, and only by the libraries whose weights they are, which keep what they fetched in folders
of their own (`HF_HOME`, `TORCH_HOME`). Whoever looks whether weights are at hand (a student, `verify`, `--dry-run`)
asks `at_hand`.
"""

from pathlib import Path

from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.config.weights_names import HubFile, LocalFile, Pretrained, parse_weights
from stillroom.storage.errors import ModelError

from . import hub, pretrained
from .digest import missing


def at_hand(section: Teacher) -> str | None:
    """The file of a teacher's weights; None where it is not here. Fetches nothing.

    Raises:
        ModelError: the library has no such model, or no weights of it.
    """
    named = parse_weights(section.model, section.weights)
    if isinstance(named, LocalFile):
        return named.path if Path(named.path).is_file() else None
    if isinstance(named, HubFile):
        return hub.fetched(named.repo, named.file, named.revision)
    return pretrained.fetched(named) if named is not None else None


def fetch(section: Teacher) -> str:
    """The same, fetched where it is not here yet.

    Raises:
        ModelError: there is no such file, or it cannot be fetched; says why, and what to do without a network.
    """
    here = at_hand(section)
    if here is not None:
        return here
    named = parse_weights(section.model, section.weights)
    if isinstance(named, HubFile):
        return hub.fetch(section.weights, named.repo, [named.file], named.revision)
    if isinstance(named, Pretrained):
        return pretrained.fetch(named)
    return section.weights  # whoever reads it says that it is not there


def refuse_missing(section: Teacher) -> None:
    """Refuse a teacher whose weights are neither here nor can be fetched, before any work is done for it.

    Raises:
        ModelError: they are missing; or a library has no such weights; or the teacher is a Python program's to give.
    """
    named = parse_weights(section.model, section.weights)
    if named is None:
        raise ModelError(
            f"teacher {section.name!r} is {section.model!r}, a module of a Python program's own: run the program that "
            f'calls stillroom.teacher(CONFIG, "{section.name}", module, version=…)'
        )
    if at_hand(section) is None and isinstance(named, LocalFile):
        raise ModelError(missing(named.path))
