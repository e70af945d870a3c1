"""How logits become bytes: a name from the config to the Zarr codecs of one inner chunk.

To every reader the logits are one dense float array; only what stands between a chunk and its bytes differs. A codec
here knows rows of floats and nothing of images, views or teachers. Importing this module registers the codecs with
Zarr; so do its entry points, for readers that never import it.
"""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
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

from .kinds import CodecKind, codec_kinds, parse_codec

__all__ = [
    "ChunkReport",
    "Fidelity",
    "Int8Codec",
    "LogitCodec",
    "SqrtPCodec",
    "TopKCodec",
    "TransformCodec",
    "TransformModel",
    "divergence",
    "fidelity",
    "fit",
    "logit_codec",
]


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


def logit_codec(name: str, model: TransformModel | None = None) -> LogitCodec:
    """The codec of that name.

    Args:
        name: "float32", "float16", "int8", "topk" or "topk:K", "sqrtp" or "sqrtp:STEP", "transform", or a package's.
        model: what `fit` made of the pilot, for a codec that is fitted to one.

    Raises:
        ConfigError: there is no codec of that name, its number is wrong, or it is to be fitted and has no model.
    """
    kind, number = parse_codec(name)
    if not kind.serializer:
        return _floats(kind.name)
    made = _class_of(kind)
    if kind.fitted:
        if model is None:
            raise ConfigError(f"cache.codec is {name!r}, which is fitted on a pilot of logits, and there is none yet")
        return LogitCodec("float32", made(model), ())
    asked = () if number is None else (int(number) if kind.whole else number,)
    return LogitCodec("float32", made(*asked), ())


def _floats(dtype: str) -> LogitCodec:
    """IEEE floats, their bits shuffled so that zstd finds the exponents' regularity."""
    itemsize = np.dtype(dtype).itemsize
    blosc = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=itemsize)
    return LogitCodec(dtype, BytesCodec(endian="little"), (blosc, Crc32cCodec()))


def _class_of(kind: CodecKind) -> Any:
    return EntryPoint(kind.name, kind.serializer, "zarr.codecs").load()


for _kind in codec_kinds().values():
    if _kind.serializer:
        register_codec(_kind.zarr_name, _class_of(_kind))
