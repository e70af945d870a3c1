"""Which file of weights it is, without reading a tensor of it."""

import hashlib
from functools import lru_cache
from pathlib import Path

from stillroom.storage.errors import ModelError


def weights_digest(path: str) -> str:
    """SHA-256 of a file of weights, in hexadecimal.

    Raises:
        ModelError: there is no such file.
    """
    if not Path(path).is_file():
        raise ModelError(missing(path))
    status = Path(path).stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


def missing(path: str) -> str:
    """What is said of a file of weights that is not there."""
    if "://" in path:
        return f"weights {path} are at a URL; they are read from a local file: copy them, give its path"
    return f"weights {path} do not exist; give a .safetensors file, or a .pth with a state dict"


@lru_cache(maxsize=8)
def _sha256(path: str, mtime: int, size: int) -> str:  # noqa: ARG001
    """Read once for each version of the file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
