"""What the policies choose among, and what a level of each means: one table for each published version.

A level is a number in [0, 1]. `PAPER` is AutoAugment's and RandAugment's, as torchvision has it; `WIDE` is
TrivialAugment's; `TIMM` and `TIMM_INCREASING` are timm's, without and with "inc1".
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.augment.operations.geometry.affine import Interpolation, rotated, sheared, translated
from stillroom.pipeline.augment.steps import RGB, WIDTH, Kind, Steps, fixed, step

_Values = npt.NDArray[np.float64]
Choice = Callable[[_Values, _Values, Interpolation, RGB], Steps]
"""From levels [n] and signs [n], −1 or 1, to steps int32 [n, 1, 8]; the rest is for affine ones."""


def _still(kind: Kind) -> Choice:
    return lambda level, _sign, _how, _fill: step(kind, len(level))


def _counted(kind: Kind, number: Callable[[_Values], _Values]) -> Choice:
    return lambda level, _sign, _how, _fill: step(kind, len(level), number(level).astype(np.int32))


def _factor(kind: Kind, factor: Callable[[_Values, _Values], _Values]) -> Choice:
    return lambda level, sign, _how, _fill: step(kind, len(level), fixed(factor(level, sign)))


def _shear_x(most: float) -> Choice:
    return lambda level, sign, how, fill: sheared(sign * level * most, np.zeros(len(level)), how, fill)


def _shear_y(most: float) -> Choice:
    return lambda level, sign, how, fill: sheared(np.zeros(len(level)), sign * level * most, how, fill)


def _translate_x(most: float) -> Choice:
    return lambda level, sign, how, fill: translated(sign * level * most, np.zeros(len(level)), how, fill)


def _translate_y(most: float) -> Choice:
    return lambda level, sign, how, fill: translated(np.zeros(len(level)), sign * level * most, how, fill)


def _rotate(most: float) -> Choice:
    return lambda level, sign, how, fill: rotated(sign * level * most, how, fill)


def _identity(level: _Values, _sign: _Values, _how: Interpolation, _fill: RGB) -> Steps:
    return np.zeros((len(level), 1, WIDTH), np.int32)


_ENHANCE = {
    "brightness": Kind.BRIGHTNESS,
    "color": Kind.SATURATION,
    "contrast": Kind.CONTRAST,
    "sharpness": Kind.SHARPNESS,
}


def _enhance(factor: Callable[[_Values, _Values], _Values]) -> dict[str, Choice]:
    return {name: _factor(kind, factor) for name, kind in _ENHANCE.items()}


def _affine(shear: float, translate: float, rotate: float) -> dict[str, Choice]:
    return {
        "shear_x": _shear_x(shear),
        "shear_y": _shear_y(shear),
        "translate_x": _translate_x(translate),
        "translate_y": _translate_y(translate),
        "rotate": _rotate(rotate),
    }


_HISTOGRAM = {"autocontrast": _still(Kind.AUTOCONTRAST), "equalize": _still(Kind.EQUALIZE)}
_INVERT = {"invert": _still(Kind.INVERT)}
_SOLARIZE = {"solarize": _counted(Kind.SOLARIZE, lambda level: np.ceil(255.0 * (1.0 - level)))}

PAPER: Mapping[str, Choice] = {
    "identity": _identity,
    **_affine(0.3, 150.0 / 331.0, 30.0),
    **_enhance(lambda level, sign: 1.0 + sign * 0.9 * level),
    "posterize": _counted(Kind.POSTERIZE, lambda level: 8.0 - np.rint(4.0 * level)),
    **_SOLARIZE,
    **_HISTOGRAM,
}
"""RandAugment's 14, 1909.13719; without the identity and with `INVERT`, AutoAugment's, 1805.09501."""
POLICY: Mapping[str, Choice] = {**PAPER, **_INVERT}
WIDE: Mapping[str, Choice] = {
    "identity": _identity,
    **_affine(0.99, 32.0 / 224.0, 135.0),
    **_enhance(lambda level, sign: 1.0 + sign * 0.99 * level),
    "posterize": _counted(Kind.POSTERIZE, lambda level: 8.0 - np.rint(6.0 * level)),
    **_SOLARIZE,
    **_HISTOGRAM,
}
"""TrivialAugment's wide space, 2103.10158; its moves of up to 32 pixels are of a view of 224."""
_TIMM: Mapping[str, Choice] = {
    **_affine(0.3, 0.45, 30.0),
    "solarize_add": _counted(Kind.SOLARIZE_ADD, lambda level: np.floor(110.0 * level)),
    **_HISTOGRAM,
    **_INVERT,
}
TIMM: Mapping[str, Choice] = {
    **_TIMM,
    **_enhance(lambda level, _sign: 0.1 + 1.8 * level),
    "posterize": _counted(Kind.POSTERIZE, lambda level: np.floor(4.0 * level)),
    "solarize": _counted(Kind.SOLARIZE, lambda level: np.floor(256.0 * level)),
}
TIMM_INCREASING: Mapping[str, Choice] = {
    **_TIMM,
    **_enhance(lambda level, sign: np.maximum(0.1, 1.0 + sign * 0.9 * level)),
    "posterize": _counted(Kind.POSTERIZE, lambda level: 4.0 - np.floor(4.0 * level)),
    "solarize": _counted(Kind.SOLARIZE, lambda level: 256.0 - np.floor(256.0 * level)),
}


def chosen(
    space: Mapping[str, Choice],
    which: npt.NDArray[np.integer],
    level: _Values,
    sign: _Values,
    how: Interpolation,
    fill: RGB,
) -> Steps:
    """One of a table's steps for each view: int32 [n, 1, 8].

    Args:
        space: the table.
        which: int [n], places in it.
        level, sign: float64 [n].
        how, fill: for affine steps.
    """
    found = np.zeros((len(which), 1, WIDTH), np.int32)
    for place, choice in enumerate(space.values()):
        rows = np.flatnonzero(which == place)
        if len(rows):
            found[rows] = choice(level[rows], sign[rows], how, fill)
    return found
