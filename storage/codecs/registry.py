"""How logits become bytes: a name from the config to the Zarr codecs of one inner chunk.

To every reader the logits are one dense float array; only what stands between a chunk and its bytes differs. A codec
here knows rows of floats and nothing of images, views or teachers. Importing this package registers the codecs with
Zarr; so do its entry points, for readers that never import it.
"""

from dataclasses import dataclass
from typing import Any

from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.registry import register_codec

from stillroom.storage.codecs.rows.divergence import Fidelity, divergence, fidelity
from stillroom.storage.codecs.rows.int8 import Int8Codec
from stillroom.storage.codecs.rows.sqrt_prob import SqrtPCodec
from stillroom.storage.codecs.rows.topk import TopKCodec
from stillroom.storage.codecs.transform.codec import ChunkReport, TransformCodec
from stillroom.storage.codecs.transform.fit import fit
from stillroom.storage.codecs.transform.model import TransformModel
from stillroom.storage.errors import ConfigError

from .names import CODECS, parse_codec

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


def codec_names() -> list[str]:
    """All names that `logit_codec` knows."""
    return sorted(CODECS)


def logit_codec(name: str, model: TransformModel | None = None) -> LogitCodec:
    """The codec of that name.

    Args:
        name: "float32", "float16", "int8", "topk" or "topk:K", "sqrtp" or "sqrtp:STEP", or "transform".
        model: for "transform", what `fit` made of the pilot.

    Raises:
        ConfigError: there is no codec of that name, its parameter is wrong, or "transform" has no model.
    """
    parsed = parse_codec(name)
    match parsed.base, parsed.parameter:
        case "int8", _:
            return _rows(Int8Codec())
        case "topk", float(k):
            return _rows(TopKCodec(int(k)))
        case "sqrtp", float(step):
            return _rows(SqrtPCodec(step))
        case "transform", _:
            if model is None:
                raise ConfigError(
                    "cache.codec is 'transform', which is fitted on a pilot of logits, and there is none yet"
                )
            return _rows(TransformCodec(model))
        case plain, _:
            return _plain(plain)
