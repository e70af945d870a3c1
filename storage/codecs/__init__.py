"""How logits become bytes: a name from the config to the Zarr codecs of one inner chunk.

To every reader the logits are one dense float array; only what stands between a chunk and its bytes differs. A codec
here knows rows of floats and nothing of images, views or teachers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from ..errors import ConfigError


@dataclass(frozen=True)
class LogitCodec:
    """What Zarr needs to store an inner chunk of logits.

    Attributes:
        dtype: dtype of the logical array, "float32" or "float16".
        serializer: the Zarr array-to-bytes codec.
        compressors: the Zarr bytes-to-bytes codecs after it, the last one a checksum.
    """

    dtype: str
    serializer: Any
    compressors: tuple[Any, ...]


def _plain(dtype: str) -> LogitCodec:
    """IEEE floats, their bits shuffled so that zstd finds the exponents' regularity."""
    itemsize = {"float32": 4, "float16": 2}[dtype]
    blosc = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=itemsize)
    return LogitCodec(dtype, BytesCodec(endian="little"), (blosc, Crc32cCodec()))


_CODECS: dict[str, Callable[[], LogitCodec]] = {
    "float32": lambda: _plain("float32"),
    "float16": lambda: _plain("float16"),
}


def logit_codec(name: str) -> LogitCodec:
    """The codec of that name.

    Raises:
        ConfigError: there is no codec of that name.
    """
    if name not in _CODECS:
        raise ConfigError(f"cache.codec is {name!r}; choose one of {', '.join(sorted(_CODECS))}")
    return _CODECS[name]()
