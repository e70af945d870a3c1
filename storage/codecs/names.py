"""Names of logit codecs as a config writes them: `float16`, `topk:10`. Needs none of the codecs' packages."""

from dataclasses import dataclass

from stillroom.storage.errors import ConfigError

PLAIN = ("float16", "float32")
"""IEEE floats, which round but do not choose."""
TRANSFORM = "transform"
"""The one that is fitted to a pilot and holds a bound."""
CODECS = (*PLAIN, "int8", "topk", "sqrtp", TRANSFORM)
_DEFAULTS = {"topk": 10.0, "sqrtp": 0.05}
SQRTP_STEPS = (1 / 4096, 1.0)


@dataclass(frozen=True)
class CodecName:
    """A name, taken apart.

    Attributes:
        base: one of `CODECS`.
        parameter: K of "topk", the step of "sqrtp"; None for the others.
    """

    base: str
    parameter: float | None = None


def parse_codec(name: str) -> CodecName:
    """The parts of a codec's name.

    Raises:
        ConfigError: there is no codec of that name, or its parameter is wrong.
    """
    base, colon, text = name.partition(":")
    if base not in CODECS or (colon and base not in _DEFAULTS):
        known = ", ".join({"topk": "topk[:K]", "sqrtp": "sqrtp[:STEP]"}.get(item, item) for item in CODECS)
        raise ConfigError(f"cache.codec is {name!r}; choose one of {known}")
    if base not in _DEFAULTS:
        return CodecName(base)
    try:
        parameter = float(text) if text else _DEFAULTS[base]
    except ValueError as error:
        raise ConfigError(f"cache.codec is {name!r}; {base} takes a number after the colon") from error
    if base == "topk" and not (parameter >= 1 and parameter.is_integer()):
        raise ConfigError(f"cache.codec is {name!r}; top-k keeps a whole number of classes, 1 or more")
    low, high = SQRTP_STEPS
    if base == "sqrtp" and not low <= parameter <= high:
        raise ConfigError(f"cache.codec is {name!r}; steps of √p lie between 1/4096 and 1")
    return CodecName(base, parameter)
