"""What each step does to real photos, against Pillow or torchvision with the same numbers, over the whole range.

Each case states the largest difference of a level and the mean one that were found, rounded up; a wrong sign, centre,
fill or order of channels is far beyond them.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms.v2 import functional as F

from stillroom.pipeline.augment.operations.geometry.affine import rotated, sheared, translated
from stillroom.pipeline.augment.steps import NEAREST, Kind, affine, fixed, packed, step
from stillroom.pipeline.pixels import compiled
from stillroom.pipeline.pixels.placed import placed

FILL = (124, 116, 104)
SIZE = 160


@pytest.fixture(scope="module")
def photographs(photo_of_size):
    """Eight pieces of photos: uint8 [8, SIZE, SIZE, 3]."""
    found = [
        np.asarray(Image.open(io.BytesIO(photo_of_size(SIZE, SIZE, n).tobytes())).convert("RGB")) for n in range(8)
    ]
    return np.stack(found)


def ours(views, steps):
    work = placed(np.repeat(steps, len(views), axis=0), views.shape[1])
    found = views.copy()
    compiled.paint(found, work.steps, work.filters)
    return found


def theirs(views, change):
    return np.stack([np.asarray(change(Image.fromarray(view))) for view in views])


def one(value):
    return np.array([float(value)])


def pillow_affine(matrix, how):
    kind = Image.Resampling.BILINEAR if how == "bilinear" else Image.Resampling.NEAREST
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, kind, fillcolor=FILL)


def pillow_rotate(degrees, how):
    kind = Image.Resampling.BILINEAR if how == "bilinear" else Image.Resampling.NEAREST
    return lambda image: image.rotate(degrees, kind, fillcolor=FILL)


def in_torch(function, *numbers):
    def change(image):
        tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
        return function(tensor, *numbers).permute(1, 2, 0).numpy()

    return change


FACTORS = (0.0, 0.1, 0.55, 1.0, 1.3, 1.9)
ENHANCE = {
    Kind.BRIGHTNESS: (ImageEnhance.Brightness, 1, 0.013),
    Kind.CONTRAST: (ImageEnhance.Contrast, 1, 0.001),
    Kind.SATURATION: (ImageEnhance.Color, 1, 0.001),
    Kind.SHARPNESS: (ImageEnhance.Sharpness, 1, 0.001),
}


def enhanced(way, factor):
    return lambda image: way(image).enhance(factor)


def with_number(function, number):
    return lambda image: function(image, number)


LEVELS = [
    (kind.name, factor, step(kind, 1, fixed(factor)), enhanced(way, factor), most, mean)
    for kind, (way, most, mean) in ENHANCE.items()
    for factor in FACTORS
]
LEVELS += [
    ("posterize", bits, step(Kind.POSTERIZE, 1, bits), with_number(ImageOps.posterize, bits), 0, 0.0)
    for bits in range(1, 9)
]
LEVELS += [
    ("solarize", first, step(Kind.SOLARIZE, 1, first), with_number(ImageOps.solarize, first), 0, 0.0)
    for first in (0, 1, 100, 128, 256)
]
LEVELS += [
    ("hue", turn, step(Kind.HUE, 1, fixed(turn)), in_torch(F.adjust_hue, turn), 1, 0.11)
    for turn in (-0.5, -0.2, 0.05, 0.1, 0.4)
]
LEVELS += [
    ("invert", "", step(Kind.INVERT, 1), ImageOps.invert, 0, 0.0),
    ("autocontrast", "", step(Kind.AUTOCONTRAST, 1), ImageOps.autocontrast, 1, 0.0003),
    ("equalize", "", step(Kind.EQUALIZE, 1), ImageOps.equalize, 0, 0.0),
]


@pytest.mark.parametrize(
    ("steps", "reference", "most", "mean"),
    [case[2:] for case in LEVELS],
    ids=[f"{case[0]}-{case[1]}" for case in LEVELS],
)
def test_levels_are_pillows(photographs, steps, reference, most, mean):
    found, wanted = ours(photographs, steps).astype(int), theirs(photographs, reference).astype(int)
    apart = np.abs(found - wanted)
    assert apart.max() <= most
    assert apart.mean() <= mean


def test_solarize_add_is_timms(photographs):
    for more in (0, 30, 110, 128):
        table = [min(255, level + more) if level < 128 else level for level in range(256)]
        wanted = theirs(photographs, lambda image, table=table: image.point(table * 3))
        assert np.array_equal(ours(photographs, step(Kind.SOLARIZE_ADD, 1, more)), wanted)


def turned(degrees):
    return lambda how: rotated(one(degrees), how, FILL), lambda how: pillow_rotate(degrees, how)


def slanted(x, y):
    return lambda how: sheared(one(x), one(y), how, FILL), lambda how: pillow_affine((1, x, 0, y, 1, 0), how)


def moved(x, y):
    matrix = (1, 0, -x * SIZE, 0, 1, -y * SIZE)
    return lambda how: translated(one(x), one(y), how, FILL), lambda how: pillow_affine(matrix, how)


AFFINE = {
    **{f"rotate {degrees}": turned(degrees) for degrees in (-135, -30, -7.5, 0, 12, 30, 90)},
    **{f"shear {x} {y}": slanted(x, y) for x, y in ((-0.99, 0), (-0.3, 0), (0.15, 0), (0, -0.3), (0, 0.2), (0, 0.99))},
    **{f"translate {x} {y}": moved(x, y) for x, y in ((0.453, 0), (-0.2, 0.11), (0, -0.453), (1.0, 0))},
}


@pytest.mark.parametrize("how", ["nearest", "bilinear"])
@pytest.mark.parametrize(("steps", "reference"), AFFINE.values(), ids=AFFINE.keys())
def test_geometry_is_pillows(photographs, steps, reference, how):
    """Where a place falls on the edge of a pixel to a 65,536th, the next one may be taken: those are few."""
    apart = np.abs(ours(photographs, steps(how)).astype(int) - theirs(photographs, reference(how)).astype(int))
    assert (apart.max(axis=3) > 1).mean() <= 0.005
    assert apart.mean() <= 0.13


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 5.0])
def test_blur_is_torchvisions(photographs, sigma):
    reach = 2 * int(np.ceil(4 * sigma)) + 1
    steps = step(Kind.BLUR, 1, fixed(sigma / SIZE))
    wanted = theirs(photographs, in_torch(lambda image: F.gaussian_blur(image, [reach, reach], [sigma, sigma])))
    apart = np.abs(ours(photographs, steps).astype(int) - wanted.astype(int))
    assert apart.max() <= 1
    assert apart.mean() <= 0.06


@pytest.mark.parametrize(("down", "right"), [(0, 0), (65535, 0), (20000, 50000)])
def test_pad_and_crop_moves_by_whole_pixels(photographs, down, right):
    padding = 20
    steps = step(Kind.SHIFT, 1, down, right, fixed(padding / SIZE), packed(0, FILL))
    top, left = (draw * (2 * padding + 1) // 65536 for draw in (down, right))
    padded = np.full((8, SIZE + 2 * padding, SIZE + 2 * padding, 3), FILL, np.uint8)
    padded[:, padding:-padding, padding:-padding] = photographs
    assert np.array_equal(ours(photographs, steps), padded[:, top : top + SIZE, left : left + SIZE])


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["constant", "color", "noise"])
def test_erasing_overwrites_its_box_alone(photographs, mode):
    edges = (0.254, 0.129, 0.504, 0.304)
    steps = step(Kind.ERASE, 1, *map(fixed, edges), packed(mode, FILL), 12345, -6789)
    found = ours(photographs, steps)
    top, left, height, width = edges
    inside = np.zeros((SIZE, SIZE), bool)
    inside[round(top * SIZE) : round((top + height) * SIZE), round(left * SIZE) : round((left + width) * SIZE)] = True
    assert np.array_equal(found[:, ~inside], photographs[:, ~inside])
    box = found[:, inside].astype(float)
    if mode == 0:
        assert (box == FILL).all()
    elif mode == 1:
        assert (box == box[0, 0]).all()
    else:
        assert np.abs(box.mean(axis=(0, 1)) - FILL).max() < 3
        assert np.abs(box.std(axis=(0, 1)) - 255 * np.array([0.229, 0.224, 0.225])).max() < 2


def test_steps_act_in_their_order(photographs):
    solarize, darker = step(Kind.SOLARIZE, 1, 128), step(Kind.BRIGHTNESS, 1, fixed(0.4))
    found = ours(photographs, np.concatenate([solarize, darker], axis=1))
    wanted = theirs(photographs, lambda image: ImageEnhance.Brightness(ImageOps.solarize(image, 128)).enhance(0.4))
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    other = ours(photographs, np.concatenate([darker, solarize], axis=1))
    assert not np.array_equal(found, other)


def test_a_matrix_that_moves_nothing_leaves_every_pixel(photographs):
    still = affine((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1, NEAREST, FILL)
    assert np.array_equal(ours(photographs, still), photographs)


def test_each_kind_of_step_has_a_reference():
    """Those of levels and of geometry stand in the tables above; the others have a test of their own."""
    tables = {int(steps[0, 0, 0]) for _, _, steps, *_ in LEVELS} | {Kind.AFFINE}
    alone = {Kind.SOLARIZE_ADD, Kind.BLUR, Kind.SHIFT, Kind.ERASE, Kind.MIRROR}
    assert tables | alone | {Kind.NOTHING} == set(Kind)


@pytest.mark.parametrize(("axis", "change"), [(1, ImageOps.mirror), (2, ImageOps.flip)])
def test_mirrors_are_pillows(photographs, axis, change):
    assert np.array_equal(ours(photographs, step(Kind.MIRROR, 1, axis)), theirs(photographs, change))
