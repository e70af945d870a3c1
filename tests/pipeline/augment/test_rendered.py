"""Whole recipes on real photos, rendered: the same bits for any batch, order, threads and branches; resize filters."""

import io

import numpy as np
import pytest
import torch
from cases import CASES, made
from PIL import Image

from stillroom.pipeline.augment.operation import PixelOperation
from stillroom.pipeline.augment.operations.geometry.vertical_flip import VerticalFlip
from stillroom.pipeline.augment.presets import PRESETS
from stillroom.pipeline.augment.recipe import Recipe, Views, draw_views
from stillroom.pipeline.config.sections import Views as Settings
from stillroom.pipeline.pixels.painter import Painter
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.storage.errors import ConfigError

COUNT, SIZE = 24, 48
SEEDS = np.arange(COUNT, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


@pytest.fixture(scope="module")
def images(photo_of_size):
    draw = np.random.default_rng(1)
    return [photo_of_size(*draw.integers((60, 70), (200, 300)).tolist(), number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def sizes(images):
    shapes = [Image.open(io.BytesIO(image.tobytes())).size[::-1] for image in images]
    return [np.array(sides, np.int32) for sides in zip(*shapes, strict=True)]


def every():
    """One of each operation, each acting on most views."""
    seen = {}
    for case in CASES:
        seen.setdefault(case["op"], made({**case, "p": 0.8}))
    return [VerticalFlip(), *seen.values()]


RECIPES = {
    **{name: lambda name=name: Settings.model_validate({"preset": name}).recipe for name in PRESETS},
    "every operation": lambda: Recipe.of(every(), resize="bicubic-antialias"),
    "every operation, and DALI's": lambda: Recipe.of(every(), hue=0.1),
    "centre": lambda: Recipe.of([made({"op": "pad_crop"})], crop="centre", crop_share=0.9),
}


def render(images, recipe, drawn, rows, batch, threads, backend="dali-cpu"):
    renderer = Renderer((SIZE,), batch, views=len(drawn), operations=recipe.acting, backend=backend, threads=threads)
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    requests = [Request([images[row] for row in part], [views.take(part) for views in drawn]) for part in parts]
    pixels = torch.cat([found[0] for found in renderer.stream(requests)], dim=1)
    return pixels[:, torch.from_numpy(np.argsort(rows))]


@pytest.mark.parametrize("backend", ["integer-cpu", "dali-cpu"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_view_does_not_depend_on_batch_order_threads_or_branches(images, sizes, name, backend):
    recipe = RECIPES[name]()
    if backend == "integer-cpu" and not recipe.in_integers:
        with pytest.raises(ConfigError, match=r"'colour' is one of DALI's"):
            Renderer((SIZE,), 1, operations=recipe.acting, backend=backend)
        return
    drawn = [draw_views(recipe, SEEDS, view, *sizes) for view in range(3)]
    rows = np.arange(COUNT)
    reference = torch.cat([render(images, recipe, [views], rows, 64, 1, backend) for views in drawn])
    for batch, threads in ((1, 1), (7, 2), (64, 2)):
        assert torch.equal(render(images, recipe, drawn, rows, batch, threads, backend), reference)
    shuffled = np.random.default_rng(0).permutation(COUNT)
    assert torch.equal(render(images, recipe, drawn[1:2], shuffled, 5, 2, backend)[0], reference[1])
    assert not torch.equal(reference[0], reference[1]) or name == "centre"


@pytest.mark.parametrize("backend", ["integer-cpu", "dali-cpu"])
def test_a_view_is_the_plain_one_with_its_steps_carried_out(images, sizes, backend):
    recipe, plain = Recipe.of(every(), mixup=False), Recipe.of([VerticalFlip()], mixup=False)
    drawn, rows = draw_views(recipe, SEEDS, 0, *sizes), np.arange(COUNT)
    found = render(images, recipe, [drawn], rows, 24, 1, backend)[0]
    first = Views({item.op: drawn.drawn[item.op] for item in plain.acting})
    wanted = render(images, plain, [first], rows, 24, 1, backend)[0].clone()
    Painter(1).paint(wanted, [drawn.drawn[item.op] for item in recipe.acting if isinstance(item, PixelOperation)])
    assert torch.equal(found, wanted)


def test_backends_differ_by_what_their_resize_rounds(images, sizes):
    """Before any operation, by a level at most but at the edges of antialiased views."""
    for resize in ("bilinear", "bilinear-antialias", "bicubic-antialias"):
        recipe = Recipe.of(resize=resize, mixup=False)
        drawn = [draw_views(recipe, SEEDS, 0, *sizes)]
        rows = np.arange(COUNT)
        found = [render(images, recipe, drawn, rows, 24, 1, name)[0].int() for name in ("integer-cpu", "dali-cpu")]
        apart = (found[0] - found[1]).abs()[:, 3:-3, 3:-3]
        assert apart.max() <= 1
        assert apart.float().mean() < 0.01


def test_every_size_of_a_view_is_painted(images, sizes):
    recipe = RECIPES["every operation, and DALI's"]()
    views = draw_views(recipe, SEEDS, 0, *sizes)
    both = next(Renderer((SIZE, 32), COUNT, operations=recipe.acting, threads=1).stream([Request(images, [views])]))
    alone = next(Renderer((32,), COUNT, operations=recipe.acting, threads=1).stream([Request(images, [views])]))
    assert torch.equal(both[1], alone[0])
    assert both[0].shape == (1, COUNT, SIZE, SIZE, 3)


def test_centre_crops_are_the_same_in_every_view_and_those_of_the_evaluation(images, sizes):
    recipe = Recipe.of(crop="centre", crop_share=0.5, flip=False)
    first, second = (draw_views(recipe, SEEDS, view, *sizes) for view in (0, 9))
    assert np.array_equal(first.window, second.window)
    side = np.minimum(*sizes) // 2
    assert np.abs(first.window[:, 2] - side).max() <= 1


@pytest.mark.parametrize(
    ("resize", "filter_of_pillow"),
    [("bilinear-antialias", Image.Resampling.BILINEAR), ("bicubic-antialias", Image.Resampling.BICUBIC)],
)
def test_antialiased_filters_are_pillows(images, sizes, resize, filter_of_pillow):
    """Of lossless images, so that decoders do not matter; DALI's bicubic is Pillow's, a = −0.5.

    At the outermost pixels DALI repeats the edge, and Pillow leaves out what lies beyond.
    """
    recipe = Recipe.of(resize=resize, flip=False)
    drawn = draw_views(recipe, SEEDS, 0, *sizes)
    apart = []
    for row in range(9, COUNT, 10):  # these are PNGs
        picture = Image.open(io.BytesIO(images[row].tobytes())).convert("RGB")
        top, left, height, width = drawn.window[row].tolist()
        wanted = picture.resize((SIZE, SIZE), filter_of_pillow, box=(left, top, left + width, top + height))
        request = Request([images[row]], [drawn.take(np.array([row]))])
        found = Renderer((SIZE,), 1, operations=recipe.acting, threads=1).render(request)[0][0, 0].numpy()
        apart.append(np.abs(found.astype(int) - np.asarray(wanted).astype(int))[3:-3, 3:-3])
    assert np.max(apart) <= 2, "Pillow rounds between its two passes"
    assert np.mean(apart) <= 0.2


def test_filters_differ(images, sizes):
    found = []
    for resize in ("bilinear", "bilinear-antialias", "bicubic", "bicubic-antialias"):
        recipe = Recipe.of(resize=resize, area=(0.5, 1.0), flip=False, mixup=False)
        drawn: Views = draw_views(recipe, SEEDS, 0, *sizes)
        found.append(render(images, recipe, [drawn], np.arange(COUNT), 32, 1))
    for first in range(4):
        for second in range(first):
            assert not torch.equal(found[first], found[second])
