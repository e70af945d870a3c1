"""Presets: recipes that people train with, by name, as the settings of `[views]` that a config starts from.

What of a source is not a view's stays out: size, evaluation, label smoothing, repeated augmentation. Where a source
takes affine pixels by bicubic interpolation, ours are bilinear.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillroom.storage.errors import ConfigError, among


@dataclass(frozen=True)
class Preset:
    """A recipe as settings.

    Attributes:
        source: where it is published.
        settings: of `[views]`.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)


_INCEPTION = {"area": (0.08, 1.0), "aspect": (0.75, 1.333333)}


def _timm(magnitude: float) -> dict[str, Any]:
    """timm's rand-m…-mstd0.5-inc1."""
    return {
        "op": "randaugment",
        "n": 2,
        "magnitude": magnitude,
        "std": 0.5,
        "space": "timm-inc",
        "each_p": 0.5,
    }


def _half_and_half(mixup: float, cutmix: float) -> list[dict[str, Any]]:
    return [{"op": "mixup", "alpha": mixup, "p": 0.5}, {"op": "cutmix", "alpha": cutmix, "p": 0.5}]


_NOISE = {"op": "random_erasing", "p": 0.25, "mode": "noise"}

PRESETS: Mapping[str, Preset] = {
    "paper": Preset(
        "Beyer et al., 2106.05237: inception crops from 5 % of the area on, flips, mixup with a uniform λ (function "
        "matching)",
        {"area": (0.05, 1.0), "mixup": True},
    ),
    "tinyvit": Preset(
        "Wu et al., 2207.10666, ImageNet-22k distillation: timm's RandAugment and random erasing, no mixing",
        {
            **_INCEPTION,
            "resize": "bicubic-antialias",
            "augment": [_timm(9.0), _NOISE],
            "mixup": False,
        },
    ),
    "ml-dr": Preset(
        "Faghri et al., 2303.08983, ImageNet+ (RRC + RandAugment and random erasing)",
        {
            **_INCEPTION,
            "resize": "bilinear-antialias",
            "augment": [
                {"op": "randaugment", "n": 2, "magnitude": 9, "interpolation": "nearest", "fill": (0, 0, 0)},
                {"op": "random_erasing", "p": 0.25, "area": (0.02, 0.33), "aspect": (0.3, 3.3), "fill": (0, 0, 0)},
            ],
            "mixup": False,
        },
    ),
    "torchvision": Preset(
        "torchvision's ResNet-50 IMAGENET1K_V2: TrivialAugment, random erasing, mixup and CutMix; training at 176",
        {
            **_INCEPTION,
            "resize": "bilinear-antialias",
            "augment": [{"op": "trivialaugment_wide"}, {"op": "random_erasing", "p": 0.1}],
            "mix": _half_and_half(0.2, 1.0),
        },
    ),
    "timm-a1": Preset(
        "Wightman et al., 2110.00476, A1: RandAugment 7, mixup 0.2, CutMix 1.0",
        {**_INCEPTION, "resize": "bicubic-antialias", "augment": [_timm(7.0)], "mix": _half_and_half(0.2, 1.0)},
    ),
    "timm-a2": Preset(
        "Wightman et al., 2110.00476, A2: RandAugment 7, mixup 0.1, CutMix 1.0",
        {**_INCEPTION, "resize": "bicubic-antialias", "augment": [_timm(7.0)], "mix": _half_and_half(0.1, 1.0)},
    ),
    "timm-a3": Preset(
        "Wightman et al., 2110.00476, A3: RandAugment 6, mixup 0.1, CutMix 1.0; training at 160",
        {**_INCEPTION, "resize": "bicubic-antialias", "augment": [_timm(6.0)], "mix": _half_and_half(0.1, 1.0)},
    ),
    "deit": Preset(
        "Touvron et al., 2012.12877: RandAugment 9, random erasing with noise, mixup 0.8, CutMix 1.0",
        {
            **_INCEPTION,
            "resize": "bicubic-antialias",
            "augment": [_timm(9.0), _NOISE],
            "mix": _half_and_half(0.8, 1.0),
        },
    ),
    "simclr": Preset(
        "Chen et al., 2002.05709, with the strengths of MoCo v2, 2003.04297: crops, colour jitter, grayscale, blur",
        {
            "area": (0.2, 1.0),
            "aspect": (0.75, 1.333333),
            "resize": "bilinear-antialias",
            "augment": [
                {"op": "color_jitter", "p": 0.8},
                {"op": "grayscale", "p": 0.2},
                {"op": "gaussian_blur", "p": 0.5},
            ],
            "mixup": False,
        },
    ),
}


def preset_settings(name: str) -> Mapping[str, Any]:
    """The settings of a preset.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"views.preset is {name!r}; {among(name, PRESETS)}")
    return PRESETS[name].settings
