"""Fingerprints: what a thing was made from, as plain data, and how two of them are compared.

A fingerprint is nested JSON data. Its digest stands in every ledger record; the data itself stands once beside what it
describes, so that a refusal can name the field and both values.

A field that came later is stated only where its value is another than what held before there was any (`stated`). So
what was made before keeps its fingerprint, and what is made now in the same way has the same one.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import xxhash

from stillroom.storage.errors import FingerprintError, StoreError

Fingerprint = Mapping[str, Any]


def canonical(value: Any) -> bytes:
    """The one JSON form of plain data: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: bytes | memoryview) -> str:
    """xxh3-128 of some bytes, as 32 hexadecimal digits. Finds accidents, not forgeries."""
    return str(xxhash.xxh3_128_hexdigest(data))


def fingerprint_digest(fingerprint: Fingerprint) -> str:
    """Digest of a fingerprint's canonical form."""
    return digest(canonical(fingerprint))


def stated(fields: Fingerprint, later: Fingerprint) -> dict[str, Any]:
    """A fingerprint's fields, but for those that say what their absence says.

    Args:
        fields: all of them, by name.
        later: those that came later, with the value that held before.
    """
    return {name: value for name, value in fields.items() if name not in later or value != later[name]}


def restated(what: str, stored: Fingerprint, known: Collection[str], later: Fingerprint) -> dict[str, Any]:
    """All fields of a fingerprint: the inverse of `stated`.

    Args:
        what: is described by it, for people.
        stored: as `stated` left it, in this version or another.
        known: names of all fields.
        later: as for `stated`.

    Raises:
        StoreError: a field is not known, as it is of a newer version; or one is missing.
    """
    for name in sorted(stored.keys() - set(known)):
        raise StoreError(
            f"{what} has {name} = {stored[name]!r}, which this version of stillroom does not know; "
            "use the version that wrote it, or a newer one"
        )
    found = {**later, **stored}
    for name in known:
        if name not in found:
            raise StoreError(f"{what} does not say {name}; it is none that stillroom wrote")
    return found


def refuse_difference(what: str, stored: Fingerprint, wanted: Fingerprint, remedy: str) -> None:
    """Compare two fingerprints.

    Raises:
        FingerprintError: they differ; names the first field in which they do, and both values.
    """
    mine, theirs = dict(_fields(wanted)), dict(_fields(stored))
    for field in sorted(mine.keys() | theirs.keys()):
        if mine.get(field) != theirs.get(field):
            raise FingerprintError(what, field, theirs.get(field), mine.get(field), remedy)


def _fields(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _fields(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        # JSON knows no tuples; compare what a round trip through the file would give.
        yield prefix, list(value) if isinstance(value, tuple) else value
