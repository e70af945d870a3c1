"""Types of single settings: what is checked of a URL, a name or a number wherever one stands."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..storage.errors import ConfigError
from ..storage.urls import danger, shown
from .torchvisionname import is_torchvision, parse_torchvision


def _safe(url: str) -> str:
    if reason := danger(url):
        raise ValueError(f"{shown(url)!r} {reason}, which is never done; give a path or a plain URL")
    return url


def _all_safe(urls: str) -> str:
    """The same for what may be a list of tars, "a.tar::b.tar", or one of torchvision's data sets."""
    if is_torchvision(urls):
        try:
            parse_torchvision(urls)
        except ConfigError as error:
            raise ValueError(str(error)) from error
    for reason in filter(None, map(danger, urls.split("::"))):
        raise ValueError(f"{shown(urls)!r} {reason}, which is never done; give a path or a plain URL")
    return urls


Url = Annotated[str, AfterValidator(_safe)]
Source = Annotated[str, AfterValidator(_all_safe)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Uint64 = Annotated[int, Field(ge=0, lt=2**64)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["float32", "bfloat16"]
