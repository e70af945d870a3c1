"""Files of the Hugging Face hub and of plain URLs, as the libraries that fetch them keep them.

`huggingface_hub` keeps files under `HF_HOME`, and asks `HF_ENDPOINT`; torch keeps what has a URL of its own under
`TORCH_HOME`. What is there is used as it is, and no network is asked whether there is a newer one.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse

from stillroom.storage.errors import ModelError

_DIGEST = re.compile(r"-([a-f0-9]*)\.")
"""In torch's names of files: the first digits of their SHA-256."""


def fetched(repo: str, file: str, revision: str) -> str | None:
    """Where a file of the hub is, if it was fetched."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file, revision=revision)
    return found if isinstance(found, str) else None


def fetch(name: str, repo: str, files: Sequence[str], revision: str) -> str:
    """The first of some files that a repository of the hub has, fetched unless it was already.

    Args:
        name: of the weights as the config names them, for messages.
        repo, files, revision: which.

    Raises:
        ModelError: there is no such file, or it cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for file in files:
        try:
            return str(hf_hub_download(repo, file, revision=revision))
        except LocalEntryNotFoundError as error:
            raise _unreachable(name, f"the hub cannot be reached ({_cause(error)})", repo, file) from error
        except RepositoryNotFoundError as error:
            raise ModelError(
                f"weights {name}: the hub has no repository {repo}, or it is private (set HF_TOKEN)"
            ) from error
        except RevisionNotFoundError as error:
            raise ModelError(f"weights {name}: repository {repo} has no revision {revision!r}") from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # httpx' errors, a full disk, a certificate: whatever it is, the file is not here
            raise _unreachable(name, f"it cannot be fetched ({_cause(error)})", repo, file) from error
    raise ModelError(f"weights {name}: repository {repo} has no file {' or '.join(files)} at revision {revision!r}")


def _unreachable(name: str, why: str, repo: str, file: str) -> ModelError:
    return ModelError(
        f"weights {name}: {why}. Without a network, fetch the file where there is one (`hf download {repo} {file}`), "
        "and copy the folder that HF_HOME names, or give the file's path as weights"
    )


def fetched_url(url: str) -> str | None:
    """Where a file of a URL is, if torch fetched it."""
    path = _path_of(url)
    return str(path) if path.is_file() else None


def fetch_url(name: str, url: str) -> str:
    """A file of a URL, fetched by torch, which compares it with the digest in its name.

    Args:
        name: of the weights, for messages.
        url: of the file.

    Raises:
        ModelError: it cannot be reached, or has another digest.
    """
    import torch

    path = _path_of(url)
    if path.is_file():
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = _DIGEST.search(path.name)
    try:
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=False)
    except (OSError, RuntimeError, ValueError) as error:  # urllib's are OSErrors; another digest is a RuntimeError
        raise ModelError(
            f"weights {name}: {url} cannot be fetched ({_cause(error)}). Without a network, fetch the file where there "
            f"is one, and put it at {path}, or give its path as weights"
        ) from error
    return str(path)


def _path_of(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def _cause(error: BaseException) -> str:
    """What was wrong at the bottom of it, which libraries wrap in advice of their own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__
