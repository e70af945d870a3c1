"""Types of single settings: what is checked of a URL, a name or a number wherever one stands."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from stillroom.pipeline.augment.mixing import PairMixing
from stillroom.pipeline.augment.operation import Named, Operation
from stillroom.pipeline.augment.registry import mixing_of, operation_of
from stillroom.storage.errors import ConfigError
from stillroom.storage.objects.urls import danger, shown

from .torchvision_names import is_torchvision, parse_torchvision


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


def _made_by(make: Callable[[Mapping[str, Any]], Named], kind: type[Named]) -> BeforeValidator:
    """An operation, or a way of mixing, from its table, or as it is."""

    def made(value: Any) -> Named:
        if isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise ValueError(f'{value!r} is no table; give one such as {{ op = "NAME" }}')
        try:
            return make(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(made)


_AS_DATA = PlainSerializer(lambda item: item.to_data(), return_type=dict[str, Any])
_AS_TABLE = WithJsonSchema({"type": "object"})
Augmentation = Annotated[Operation, _made_by(operation_of, Operation), _AS_DATA, _AS_TABLE]
PairMix = Annotated[PairMixing, _made_by(mixing_of, PairMixing), _AS_DATA, _AS_TABLE]
Url = Annotated[str, AfterValidator(_safe)]
Source = Annotated[str, AfterValidator(_all_safe)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Uint64 = Annotated[int, Field(ge=0, lt=2**64)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["float32", "bfloat16"]
