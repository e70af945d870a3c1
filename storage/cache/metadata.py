"""What a cache's metadata must say before anything is read by it: kinds, shapes, chunks and codecs that are ours.

Zarr believes metadata: a shape of 2⁵⁰ is allocated, and a codec's name calls whatever package has registered it. The
ledger vouches for who wrote the bytes, not for their sense. Knows plain JSON; nothing of arrays.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stillroom.storage.codecs.kinds import codec_kinds
from stillroom.storage.errors import StoreError

from .zarr_store import METADATA, CheckedStore

MOST_BYTES = 2**32
"""Of what is read at a time: a view of a data shard in float32, the seeds, a canary."""
_CODECS = frozenset({"bytes", "blosc", "zstd", "crc32c"})
_SHARDING = "sharding_indexed"
_KEYS = frozenset(
    {"shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "attributes"}
    | {"dimension_names", "zarr_format", "node_type", "storage_transformers"}
)

Json = Mapping[str, Any]
Extent = int | range
"""An extent, or those that are allowed."""


def group_attributes(store: CheckedStore, group: str, *, stated: bool = True) -> dict[str, Any]:
    """What stillroom wrote of a group, where it has stated anything.

    Raises:
        StoreError: its metadata are not what stillroom writes.
    """
    name, found = _read(store, group)
    if found.get("node_type") != "group" or found.get("zarr_format") != 3:
        raise _refusal(store, name, "node_type", found.get("node_type"), "a group of Zarr 3")
    if found.get("consolidated_metadata") is not None:
        # They would be believed in place of each array's own.
        raise _refusal(store, name, "consolidated_metadata", "there", "none")
    attributes = found.get("attributes")
    said = attributes.get("stillroom") if isinstance(attributes, dict) else None
    if stated and not isinstance(said, dict):
        raise _refusal(store, name, "attributes.stillroom", said, "a table")
    return said if isinstance(said, dict) else {}


def count(store: CheckedStore, group: str, stated: Json, field: str, most: int, least: int = 1) -> int:
    """A whole number among a group's attributes.

    Raises:
        StoreError: it is none, or out of range.
    """
    value = stated.get(field)
    if type(value) is not int or not least <= value <= most:
        raise _refusal(store, _name(group), field, value, f"a whole number from {least} to {most}")
    return value


def counts(store: CheckedStore, group: str, stated: Json, field: str, most: int, least: int = 1) -> tuple[int, ...]:
    """A list of whole numbers among a group's attributes; see `count`."""
    values = stated.get(field)
    if not isinstance(values, list):
        raise _refusal(store, _name(group), field, values, "a list")
    return tuple(count(store, group, {field: value}, field, most, least) for value in values)


def check_array(
    store: CheckedStore,
    array: str,
    dimensions: Mapping[str, Extent],
    chunk: Sequence[Extent],
    dtypes: Sequence[str],
    inner: Sequence[Extent] = (),
) -> None:
    """Refuse an array that is not laid out as ours are.

    Args:
        store: where it is.
        array: its path.
        dimensions: extent by name, in order.
        chunk: extents of a chunk, or of a Zarr shard.
        dtypes: any of these.
        inner: extents of a chunk in a Zarr shard, which it divides. Empty where there are none.

    Raises:
        StoreError: names the field, and what is there and should be.
    """
    name, found = _read(store, array)

    def refuse(field: str, value: object, wanted: object) -> StoreError:
        return _refusal(store, name, field, value, wanted)

    if (found.get("node_type"), found.get("zarr_format")) != ("array", 3):
        raise refuse("node_type", found.get("node_type"), "an array of Zarr 3")
    unknown = sorted(found.keys() - _KEYS)
    if unknown or found.get("storage_transformers"):
        raise refuse(unknown[0] if unknown else "storage_transformers", "there", "none")
    if found.get("data_type") not in dtypes:
        raise refuse("data_type", found.get("data_type"), " or ".join(dtypes))
    if found.get("dimension_names") != list(dimensions):
        raise refuse("dimension_names", found.get("dimension_names"), list(dimensions))
    if found.get("chunk_key_encoding") != {"name": "default", "configuration": {"separator": "/"}}:
        raise refuse("chunk_key_encoding", found.get("chunk_key_encoding"), "the default")
    shape = _extents(found.get("shape"))
    wanted = list(dimensions.values())
    if shape is None or not _matches(shape, wanted):
        raise refuse("shape", found.get("shape"), wanted)
    grid = found.get("chunk_grid")
    outer = _extents(_configuration(grid).get("chunk_shape"))
    regular = isinstance(grid, dict) and grid.get("name") == "regular"
    if not regular or outer is None or not _matches(outer, chunk):
        raise refuse("chunk_grid", grid, list(chunk))
    _check_codecs(found.get("codecs"), outer, inner, refuse)
    read = math.prod(extent for extent, part in zip(outer, inner or outer, strict=True) if part != 1 or not inner)
    if read * 4 > MOST_BYTES:
        raise refuse("chunk_grid", list(outer), f"at most {MOST_BYTES} bytes at a time")


def _check_codecs(codecs: object, outer: Sequence[int], inner: Sequence[Extent], refuse: Any) -> None:
    names = _codec_names(codecs)
    if inner:
        if names != [_SHARDING]:
            raise refuse("codecs", names, [_SHARDING])
        assert isinstance(codecs, list)
        sharding = _configuration(codecs[0])
        cut = _extents(sharding.get("chunk_shape"))
        fits = cut is not None and _matches(cut, inner)
        if cut is None or not fits or any(part == 0 or whole % part for whole, part in zip(outer, cut, strict=True)):
            raise refuse("codecs.chunk_shape", sharding.get("chunk_shape"), list(inner))
        if not set(_codec_names(sharding.get("index_codecs"))) <= {"bytes", "crc32c"}:
            raise refuse("codecs.index_codecs", sharding.get("index_codecs"), "bytes, crc32c")
        names = _codec_names(sharding.get("codecs"))
    ours = {kind.zarr_name for kind in codec_kinds().values() if kind.serializer}
    foreign = [name for name in names if name not in _CODECS | ours]
    if foreign or not names:
        raise refuse(
            "codecs",
            foreign or None,
            f"{', '.join(sorted(_CODECS))} or one of stillroom's own and of installed packages'",
        )


def _matches(found: Sequence[int], wanted: Sequence[Extent]) -> bool:
    pairs = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(
        have in want if isinstance(want, range) else have == want for have, want in pairs
    )


def _extents(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not all(type(extent) is int and extent >= 0 for extent in value):
        return None
    return tuple(value)


def _codec_names(codecs: object) -> list[str]:
    if not isinstance(codecs, list):
        return []
    return [str(codec.get("name")) if isinstance(codec, dict) else str(codec) for codec in codecs]


def _configuration(item: object) -> dict[str, Any]:
    found = item.get("configuration") if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}


def _name(node: str) -> str:
    return f"{node}/{METADATA}" if node else METADATA


def _read(store: CheckedStore, node: str) -> tuple[str, dict[str, Any]]:
    name = _name(node)
    try:
        found = json.loads(store.read(name))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{store.place}/{name} is no JSON ({error}); {_REMEDY}") from error
    if not isinstance(found, dict):
        raise _refusal(store, name, "all of it", found, "a table")
    return name, found


_REMEDY = "it is no cache that stillroom wrote, and is not read"


def _refusal(store: CheckedStore, name: str, field: str, value: object, wanted: object) -> StoreError:
    shown = str(value)
    return StoreError(
        f"{store.place}/{name}: {field} is {shown if len(shown) <= 200 else f'{shown[:200]}…'}, should be {wanted}; "
        f"{_REMEDY}"
    )
