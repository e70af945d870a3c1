"""Every operation that acts by steps, with the ranges that are worth trying."""

from stillroom.pipeline.augment.operation import PixelOperation
from stillroom.pipeline.augment.registry import operation_of, registered

VARIANTS = {
    "randaugment": [{}, {"space": "timm-inc", "std": 0.5, "each_p": 0.5}, {"space": "timm", "n": 3}],
    "random_erasing": [{"p": 1.0}, {"p": 1.0, "mode": "color"}, {"p": 1.0, "mode": "noise"}],
    "rotate": [{}, {"interpolation": "nearest", "fill": [9, 8, 7]}],
    "shear": [{"y": 0.2}, {"interpolation": "nearest"}],
    "pad_crop": [{}, {"padding": 0.5}],
    "gaussian_blur": [{"p": 1.0}, {"p": 1.0, "sigma": [5.0, 20.0]}],
}
CASES = [
    {"op": name, **({"p": 1.0} if not ranges.keys() & {"p", "each_p"} else {}), **ranges}
    for name, kind in sorted(registered().items())
    if issubclass(kind, PixelOperation)
    for ranges in VARIANTS.get(name, [{}])
]


def called(case):
    """A name for pytest."""
    return "-".join(str(value) for key, value in case.items() if key != "p")


def made(case):
    return operation_of(case)
