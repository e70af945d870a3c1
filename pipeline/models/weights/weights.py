"""A state dict, which file it is from, and what the file says of itself."""

import json
from dataclasses import dataclass
from typing import Any

import torch

from .digest import weights_digest
from .file import read_file
from .state_dict import find_state_dict, state_dicts


@dataclass(frozen=True)
class Weights:
    """A state dict and what its file says of itself.

    Attributes:
        state: tensors by name.
        sha256: of the file.
        metadata: strings that were saved with it; `classes`, `mean` and `std` as JSON where stillroom wrote it.
        path: for messages.
        key: under which the state dict stands in the file; "" where it is the file itself.
        others: keys of state dicts that were not taken.
    """

    state: dict[str, torch.Tensor]
    sha256: str
    metadata: dict[str, str]
    path: str
    key: str = ""
    others: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes it was trained on, if it says so."""
        names = from_json(self.metadata.get("classes"))
        return tuple(str(name) for name in names) if isinstance(names, list) else None

    @property
    def is_arrays(self) -> bool:
        """Whether it is a .npz, whose names are not torch's."""
        return self.path.endswith(".npz")


def read_weights(path: str, key: str | None = None) -> Weights:
    """Tensors from a local file: .safetensors, .npz, or what torch.save wrote.

    Args:
        path: of the file.
        key: of the state dict in it; default the first of `state_dict.WRAPPERS`.

    Raises:
        ModelError: there is no such file, or it holds no state dict, or none of that key.
    """
    sha256 = weights_digest(path)
    held, metadata = read_file(path)
    state, found = find_state_dict(held, path, key)
    others = tuple(other for other, _ in state_dicts(held) if other != found)
    return Weights(state, sha256, dict(metadata), path, found, others)


def from_json(text: str | None) -> Any:
    """A value of a file's metadata; other tools write other things under the same names, which are passed over."""
    try:
        return json.loads(text) if text is not None else None
    except ValueError:
        return None
