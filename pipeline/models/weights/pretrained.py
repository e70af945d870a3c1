"""The pretrained weights that timm and torchvision have for their models: which file they are.

What it is comes from the libraries' own tables, so a newer version may name another file; its digest is in the
teacher's fingerprint. Each library takes seconds to import, and only who asks for its weights does.
"""

from typing import Any

from stillroom.pipeline.config.weights_names import Pretrained
from stillroom.storage.errors import ModelError

from . import hub

_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Of timm's files on the hub, in the order in which timm looks for them."""


def fetched(named: Pretrained) -> str | None:
    """Where the file is, if it was fetched.

    Raises:
        ModelError: the library has no such model, or no weights of it.
    """
    if named.library == "torchvision":
        return hub.fetched_url(_torchvision(named).url)
    source = _timm(named)
    if isinstance(source, str):
        return hub.fetched_url(source)
    repo, files, revision = source
    return next((path for file in files if (path := hub.fetched(repo, file, revision)) is not None), None)


def fetch(named: Pretrained) -> str:
    """The file, fetched unless it was already.

    Raises:
        ModelError: the library has no such weights, or they cannot be fetched.
    """
    name = f"of {named.library}:{named.model}, pretrained"
    if named.library == "torchvision":
        return hub.fetch_url(name, _torchvision(named).url)
    source = _timm(named)
    if isinstance(source, str):
        return hub.fetch_url(name, source)
    repo, files, revision = source
    return hub.fetch(name, repo, files, revision)


def preprocessing(named: Pretrained) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation that torchvision states with its weights; timm's are in the model's own settings."""
    if named.library != "torchvision":
        return None
    transforms = _torchvision(named).transforms()
    return list(transforms.mean), list(transforms.std)


def _torchvision(named: Pretrained) -> Any:
    """An entry of the table of a model's weights."""
    import torchvision

    try:
        table = torchvision.models.get_model_weights(named.model)
    except ValueError as error:
        raise ModelError(f"torchvision has no model {named.model!r}") from error
    entries = [entry.name for entry in table]
    if named.entry is not None and named.entry != "DEFAULT" and named.entry not in entries:
        raise ModelError(f"torchvision:{named.model} has no weights {named.entry!r}; it has: {', '.join(entries)}")
    if not entries:
        raise ModelError(f"torchvision has no pretrained weights of {named.model}; give a file")
    return table[named.entry or "DEFAULT"]


def _timm(named: Pretrained) -> str | tuple[str, tuple[str, ...], str]:
    """A URL; or a repository of the hub, files to look for there, and a revision."""
    import timm

    if not timm.is_model(named.model):
        raise ModelError(f"timm has no model {named.model!r}")
    try:
        config = timm.get_pretrained_cfg(named.model, allow_unregistered=False)
    except RuntimeError as error:
        raise ModelError(f"timm has no weights {named.model!r}: {error}") from error
    if config is None or not (config.hf_hub_id or config.url):
        raise ModelError(f"timm has no pretrained weights of {named.model!r}; give a file, or a name with a tag")
    if not config.hf_hub_id:
        return str(config.url)
    repo, _, revision = str(config.hf_hub_id).partition("@")
    files = (str(config.hf_hub_filename),) if config.hf_hub_filename else _NAMES
    return repo, files, revision or "main"
