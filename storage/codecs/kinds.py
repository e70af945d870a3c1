"""Kinds of codecs: what a codec's name tells before any of its code is imported, and where its Zarr codec is built.

A package brings one by an entry point of the group `stillroom.codecs`, which names its `CodecKind`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.metadata import entry_points

from stillroom.storage.errors import ConfigError

GROUP = "stillroom.codecs"
_HERE = "stillroom.storage.codecs"


@dataclass(frozen=True)
class CodecKind:
    """A codec, as far as its name tells.

    Attributes:
        name: as a config writes it.
        serializer: "module:Class" of its Zarr array-to-bytes codec, which is called with the number, or the fitted
            transform; empty for floats as Zarr writes them.
        default: of the number that may follow the name after a colon; None where none may.
        least, most: of that number.
        whole: what it is a whole number of, such as "classes"; empty where it is none.
        lossless: whether rows are kept as floats, to their own rounding, so that every temperature is.
        fitted: whether it needs a transform fitted to a pilot; it then holds `cache.max_kl` at `cache.temperatures`.
        zarr_name: what the serializer is called in Zarr's metadata, and in the entry points of `zarr.codecs`.
        tried: names, with numbers, that `estimate` compares.
    """

    name: str
    serializer: str = ""
    default: float | None = None
    least: float = 0.0
    most: float = float("inf")
    whole: str = ""
    lossless: bool = False
    fitted: bool = False
    zarr_name: str = ""
    tried: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As messages list it."""
        return self.name if self.default is None else f"{self.name}[:{'K' if self.whole else 'STEP'}]"


_OWN = (
    CodecKind("float16", lossless=True, tried=("float16",)),
    CodecKind("float32", lossless=True, tried=("float32",)),
    CodecKind("int8", f"{_HERE}.rows.int8:Int8Codec", zarr_name="stillroom.int8", tried=("int8",)),
    CodecKind(
        "topk",
        f"{_HERE}.rows.topk:TopKCodec",
        default=10.0,
        least=1.0,
        whole="classes",
        zarr_name="stillroom.topk",
        tried=("topk:100", "topk:10"),
    ),
    CodecKind(
        "sqrtp",
        f"{_HERE}.rows.sqrt_prob:SqrtPCodec",
        default=0.05,
        least=1 / 4096,
        most=1.0,
        zarr_name="stillroom.sqrtp",
        tried=("sqrtp:0.05",),
    ),
    CodecKind(
        "transform",
        f"{_HERE}.transform.codec:TransformCodec",
        fitted=True,
        zarr_name="stillroom.transform",
        tried=("transform",),
    ),
)


@cache
def codec_kinds() -> Mapping[str, CodecKind]:
    """Every kind by name, ours first.

    Raises:
        ConfigError: a package's is none, or has the name of another.
    """
    found = {kind.name: kind for kind in _OWN}
    for point in entry_points(group=GROUP):
        kind = point.load()
        if not isinstance(kind, CodecKind) or kind.name in found:
            raise ConfigError(f"{point.value}, entry point {point.name!r} of {GROUP}, is no CodecKind of a new name")
        found[kind.name] = kind
    return found


def parse_codec(name: str) -> tuple[CodecKind, float | None]:
    """The kind of codec that a name such as "topk:10" is of, and its number.

    Raises:
        ConfigError: there is no codec of that name, or its number is wrong.
    """
    base, colon, text = name.partition(":")
    kind = codec_kinds().get(base)
    if kind is None or (colon and kind.default is None):
        near = difflib.get_close_matches(base, codec_kinds(), 1) if kind is None else []
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"cache.codec is {name!r}; {hint}choose one of {', '.join(map(str, codec_kinds().values()))}")
    if kind.default is None:
        return kind, None
    try:
        number = float(text) if text else kind.default
    except ValueError as error:
        raise ConfigError(f"cache.codec is {name!r}; {base} takes a number after the colon") from error
    if not kind.least <= number <= kind.most or (kind.whole and not number.is_integer()):
        what = f"a whole number of {kind.whole}" if kind.whole else "a number"
        least = Fraction(kind.least).limit_denominator(1 << 16)
        limits = f", {least} or more" if kind.most == float("inf") else f" between {least} and {kind.most:g}"
        raise ConfigError(f"cache.codec is {name!r}; {base} takes {what}{limits}")
    return kind, number


def kind_of(name: str) -> CodecKind:
    """The kind of codec that a name is of; see `parse_codec`."""
    return parse_codec(name)[0]
