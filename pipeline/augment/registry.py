"""All operations by name: those of `operations`, one module each, and those that installed packages bring.

A package brings one by an entry point of the group `stillroom.operations`, which names its class.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from stillroom.storage.errors import ConfigError

from . import operations
from .operation import FOREIGN, Operation

GROUP = "stillroom.operations"


@cache
def registered() -> Mapping[str, type[Operation]]:
    """Every operation by name.

    Raises:
        ConfigError: two have one name, or one number; or a package's is none.
    """
    found: dict[str, type[Operation]] = {}
    for module in pkgutil.iter_modules(operations.__path__):
        namespace = vars(importlib.import_module(f"{operations.__name__}.{module.name}"))
        for item in namespace.values():
            if isinstance(item, type) and issubclass(item, Operation) and item.__module__ == namespace["__name__"]:
                _add(found, item, own=True)
    for point in entry_points(group=GROUP):
        item = point.load()
        if not (isinstance(item, type) and issubclass(item, Operation)):
            raise ConfigError(f"{point.value}, entry point {point.name!r} of {GROUP}, is no class of operations")
        _add(found, item, own=False)
    return found


def operation_of(data: Mapping[str, Any]) -> Operation:
    """An operation from plain data: its name under "op", and its ranges.

    Raises:
        ConfigError: there is none of that name or version, or it does not take these ranges.
    """
    name = data.get("op")
    kind = registered().get(str(name))
    if kind is None:
        near = difflib.get_close_matches(str(name), registered(), 1)
        raise ConfigError(
            f"there is no augmentation {name!r}; {f'did you mean {near[0]!r}? ' if near else ''}"
            f"There are {', '.join(sorted(registered()))}; install the package or the version that brings it"
        )
    version = data.get("version", kind.version)
    if version != kind.version:
        raise ConfigError(
            f"augmentation {name!r} is wanted in version {version}, here is version {kind.version}; "
            "install the package or the version that brings it"
        )
    try:
        return kind.model_validate({key: value for key, value in data.items() if key not in ("op", "version")})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its ranges"
        raise ConfigError(f"augmentation {name!r}: {where}: {first['msg']}") from error


def _add(found: dict[str, type[Operation]], item: type[Operation], *, own: bool) -> None:
    for other in found.values():
        if item is not other and (item.op == other.op or item.number == other.number):
            raise ConfigError(
                f"operations {item.__module__}.{item.__name__} and {other.__module__}.{other.__name__} have one "
                f"{'name' if item.op == other.op else 'number'}; their draws would be the same"
            )
    if not own and item.number < FOREIGN:
        raise ConfigError(f"{item.__module__}.{item.__name__} has number {item.number}; leave it out, as packages do")
    found[item.op] = item
