"""fsspec's file systems, set as stillroom needs them: once per process, without caches, each request tried once.

Credentials are left to each client, which takes them from the environment: none are read, kept or passed on here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec

from stillroom.storage.errors import ConfigError, StoreError

from .retry import Retry

TIMEOUT, ATTEMPTS = "STILLROOM_STORE_TIMEOUT", "STILLROOM_STORE_ATTEMPTS"
"""Variables: seconds without an answer after which a request has failed (60), and how often one is tried (8)."""
_CONNECT_SECONDS = 10.0
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}


@dataclass(eq=False)
class FileSystem:
    """A file system of fsspec's, by the URL that it was asked for; opened again in each process.

    fsspec's asynchronous file systems hold threads and connections, which neither a fork nor a pickle keeps.

    Attributes:
        url: any URL of it.
    """

    url: str
    _opened: tuple[int, Any] | None = field(default=None, repr=False)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def is_s3(self) -> bool:
        return self.scheme in ("s3", "s3a")

    @property
    def repeats_itself(self) -> bool:
        """Whether the client tries again on its own, and cannot be told not to."""
        return self.scheme in ("gs", "gcs")

    @property
    def read_whole(self) -> Mapping[str, Any]:
        """For `cat_file`: s3fs would ask for the size first, and then for parts that may be of different versions."""
        return {"max_concurrency": 1} if self.is_s3 else {}

    @property
    def in_parts(self) -> Mapping[str, Any]:
        """For `put_file`: s3fs would hold ten parts of 50 MB at once."""
        return {"max_concurrency": 2} if self.is_s3 else {}

    def get(self) -> Any:
        """The file system of this process.

        Raises:
            StoreError: the protocol is not known, or its package is not installed.
        """
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), self._open()
        return self._opened[1]

    def root(self) -> str:
        """The URL's path in the file system."""
        return str(self.get()._strip_protocol(self.url))

    def retry(self) -> Retry:
        """How requests are repeated; never, where the client does that."""
        return Retry(attempts=1) if self.repeats_itself else Retry(attempts=int(number_from(ATTEMPTS, 8)))

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.url, self._opened = state["url"], None

    def _open(self) -> Any:
        options: dict[str, Any] = {"use_listings_cache": False}
        if self.is_s3:
            options["config_kwargs"] = {
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": number_from(TIMEOUT, 60.0),
                "retries": {"total_max_attempts": 1, "mode": "standard"},
            }
        try:
            found = fsspec.filesystem(self.scheme, **options)
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(self.scheme)
            why = f"run pip install 'stillroom[{extra}]'" if extra and isinstance(error, ImportError) else str(error)
            raise StoreError(f"{self.url} cannot be opened: {why}") from error
        if self.is_s3:
            found.retries = 1
        return found


def number_from(variable: str, default: float) -> float:
    """A positive number from the environment.

    Raises:
        ConfigError: it is something else.
    """
    text = os.environ.get(variable, "")
    try:
        number = float(text) if text else default
        if not 0 < number < float("inf") or (variable == ATTEMPTS and number < 1):
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f"{variable} is {text!r}; give a positive number, or leave it unset for {default:g}"
        ) from error
    return number
