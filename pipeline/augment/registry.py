"""All operations and ways of mixing by name: those below `operations`, one a module, and those of packages.

A package brings one by an entry point of the group `stillroom.operations`, which names its class.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from typing import Any, TypeVar

from pydantic import ValidationError

from stillroom.storage.errors import ConfigError, among

from . import operations
from .mixing import PairMixing
from .operation import FOREIGN, Named, Operation

GROUP = "stillroom.operations"
_T = TypeVar("_T", bound=Named)
_CALLED: Mapping[type[Named], str] = {Operation: "augmentation", PairMixing: "mixing"}


@cache
def registered() -> Mapping[str, type[Named]]:
    """Every operation and way of mixing by name.

    Raises:
        ConfigError: two have one name, or one number; or a package's is none.
    """
    found: dict[str, type[Named]] = {}
    for module in pkgutil.walk_packages(operations.__path__, f"{operations.__name__}."):
        for item in vars(importlib.import_module(module.name)).values():
            if isinstance(item, type) and issubclass(item, Named) and item.__module__ == module.name:
                _add(found, item)
    for point in entry_points(group=GROUP):
        item = point.load()
        if not (isinstance(item, type) and issubclass(item, Operation | PairMixing) and not isabstract(item)):
            raise ConfigError(f"{point.value}, entry point {point.name!r} of {GROUP}, is no class of operations")
        _add(found, item, point)
    return found


def operation_of(data: Mapping[str, Any]) -> Operation:
    """An operation from plain data: its name under "op", and its ranges.

    Raises:
        ConfigError: there is none of that name or version, or it does not take these ranges.
    """
    return _made(Operation, data)  # type: ignore[type-abstract]


def mixing_of(data: Mapping[str, Any]) -> PairMixing:
    """The same of a way of mixing."""
    return _made(PairMixing, data)  # type: ignore[type-abstract]


def _made(of: type[_T], data: Mapping[str, Any]) -> _T:
    name, what = str(data.get("op")), _CALLED[of]
    known = {found: kind for found, kind in registered().items() if issubclass(kind, of)}
    kind = known.get(name)
    if kind is None:
        elsewhere = registered().get(name)
        if elsewhere is not None:
            place = "views.mix" if issubclass(elsewhere, PairMixing) else "views.augment"
            raise ConfigError(f"{name!r} is no {what}; it belongs into {place}")
        raise ConfigError(
            f"there is no {what} {name!r}; {among(name, sorted(known))}; "
            "install the package or the version that brings it"
        )
    version = data.get("version", kind.version)
    if version != kind.version:
        raise ConfigError(
            f"{what} {name!r} is wanted in version {version}, here is version {kind.version}; "
            "install the package or the version that brings it"
        )
    ranges = {key: value for key, value in data.items() if key not in ("op", "version")}
    for key in ranges.keys() - kind.model_fields.keys():
        raise ConfigError(f"{what} {name!r} has no {key!r}; {among(key, kind.model_fields)}")
    try:
        return kind.model_validate(ranges)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its ranges"
        raise ConfigError(f"{what} {name!r}: {where}: {first['msg']}") from error


def _add(found: dict[str, type[Named]], item: type[Named], point: EntryPoint | None = None) -> None:
    for other in found.values():
        if item is not other and (item.op == other.op or item.number == other.number):
            raise ConfigError(
                f"operations {item.__module__}.{item.__name__} and {other.__module__}.{other.__name__} have one "
                f"{'name' if item.op == other.op else 'number'}; their draws would be the same"
            )
    if point is not None and item.number < FOREIGN:
        raise ConfigError(f"{item.__module__}.{item.__name__} has number {item.number}; leave it out, as packages do")
    found[item.op] = item
