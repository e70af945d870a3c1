"""How logits become bytes: a name from the config to the Zarr codecs of one inner chunk.

To every reader the logits are one dense float array; only what stands between a chunk and its bytes differs. A codec
here knows rows of floats and nothing of images, views or teachers. Importing this package registers the codecs with
Zarr; so do its entry points, for readers that never import it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.registry import register_codec

from ..errors import ConfigError
from .fidelity import Fidelity, divergence, fidelity
from .fit import fit
from .int8 import Int8Codec
from .model import TransformModel
from .sqrtp import SqrtPCodec
from .topk import TopKCodec
from .transform import ChunkReport, TransformCodec

__all__ = [
    "ChunkReport",
    "Fidelity",
    "Int8Codec",
    "LogitCodec",
    "SqrtPCodec",
    "TopKCodec",
    "TransformCodec",
    "TransformModel",
    "codec_names",
    "divergence",
    "fidelity",
    "fit",
    "logit_codec",
]

for _codec in (Int8Codec, TopKCodec, SqrtPCodec, TransformCodec):
    register_codec(_codec.codec_name, _codec)


@dataclass(frozen=True)
class LogitCodec:
    """What Zarr needs to store an inner chunk of logits.

    Attributes:
        dtype: dtype of the logical array, "float32" or "float16".
        serializer: the Zarr array-to-bytes codec.
        compressors: the Zarr bytes-to-bytes codecs after it: a checksum where the serializer has none of its own.
    """

    dtype: str
    serializer: Any
    compressors: tuple[Any, ...]


def _plain(dtype: str) -> LogitCodec:
    """IEEE floats, their bits shuffled so that zstd finds the exponents' regularity."""
    itemsize = {"float32": 4, "float16": 2}[dtype]
    blosc = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=itemsize)
    return LogitCodec(dtype, BytesCodec(endian="little"), (blosc, Crc32cCodec()))


def _rows(codec: Any) -> LogitCodec:
    return LogitCodec("float32", codec, ())


_PLAIN = ("float16", "float32")
_PARAMETRIC: dict[str, Callable[[str], LogitCodec]] = {
    "topk": lambda text: _rows(TopKCodec(int(text or "10"))),
    "sqrtp": lambda text: _rows(SqrtPCodec(float(text or "0.05"))),
}


def codec_names() -> list[str]:
    """All names that `logit_codec` knows."""
    return sorted([*_PLAIN, *_PARAMETRIC, "int8", "transform"])


def logit_codec(name: str, model: TransformModel | None = None) -> LogitCodec:
    """The codec of that name.

    Args:
        name: "float32", "float16", "int8", "topk" or "topk:K", "sqrtp" or "sqrtp:STEP", or "transform".
        model: for "transform", what `fit` made of the pilot.

    Raises:
        ConfigError: there is no codec of that name, its parameter is wrong, or "transform" has no model.
    """
    base, _, parameter = name.partition(":")
    if name in _PLAIN:
        return _plain(name)
    if name == "int8":
        return _rows(Int8Codec())
    if name == "transform":
        if model is None:
            raise ConfigError("cache.codec is 'transform', which is fitted on a pilot of logits, and there is none yet")
        return _rows(TransformCodec(model))
    if base in _PARAMETRIC:
        try:
            return _PARAMETRIC[base](parameter)
        except ValueError as error:
            raise ConfigError(f"cache.codec is {name!r}; {base} takes a number after the colon") from error
    raise ConfigError(f"cache.codec is {name!r}; choose one of {', '.join(codec_names())}")
