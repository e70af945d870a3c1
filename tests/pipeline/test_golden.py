"""Draws are for ever: 100 samples' seeds, windows, flips, colours, partners and λ, pinned in golden.json.

The file was written once, by `python tests/pipeline/test_golden.py`. A change of any number in it breaks every cache.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.rng.seeds import seeds_of, uid_of

GOLDEN = Path(__file__).with_name("golden.json")
KEYS = [f"class{number % 7}/photo{number:03d}" for number in range(100)]
ROOT_SEED = 0x0123456789ABCDEF
RECIPES = {
    "paper": Recipe(),
    "tall crops, rarely fitting": Recipe.of(area=(0.5, 1.0), aspect=(0.1, 0.3), flip=False),
    "colour": Recipe.of(mixup=False, brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1),
}
VIEWS = (0, 1, 4_000_000_000)


def draws() -> dict:
    uids = np.array([uid_of(key) for key in KEYS], np.uint64)
    seeds = seeds_of(uids, ROOT_SEED)
    heights = (np.arange(100, dtype=np.int32) * 37) % 900 + 1
    widths = (np.arange(100, dtype=np.int32) * 53) % 700 + 1
    found = {"uids": [str(uid) for uid in uids], "seeds": [str(seed) for seed in seeds], "views": []}
    for name, recipe in RECIPES.items():
        for view in VIEWS:
            views = draw_views(recipe, seeds, view, heights, widths)
            mix = recipe.mixing.draw(seeds, view)
            colours = views.drawn["colour"].tolist() if "colour" in views.drawn else None
            found["views"].append(
                {
                    "recipe": name,
                    "view": view,
                    "window": views.window.tolist(),
                    "flip": views.drawn.get("flip", np.zeros(len(views), np.int32)).tolist(),
                    "colour": colours and [[float(x).hex() for x in row] for row in colours],
                    "partner": mix.partner.tolist(),
                    "share": [float(x).hex() for x in mix.weight],
                }
            )
    return found


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("field", ["uids", "seeds"])
def test_seeds_are_those_of_the_golden_file(golden, field):
    assert draws()[field] == golden[field]


def test_views_are_those_of_the_golden_file(golden):
    assert draws()["views"] == golden["views"]


def plain_philox(counter, key):
    """Philox4x32-10 on Python's own integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        product0, product1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & 0xFFFFFFFF,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & 0xFFFFFFFF,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def plain_window(seed, view, height, width):
    """The inception crop as the design words it, for one sample, with Python's floats and the library's exp and log."""
    for attempt in range(10):
        words = plain_philox((attempt, 0, view, 1), (seed & 0xFFFFFFFF, seed >> 32))
        area, aspect, down, right = (word / 2**32 for word in words)
        pixels = height * width * (0.05 + area * 0.95)
        ratio = math.exp(math.log(0.75) + aspect * (math.log(1.333333) - math.log(0.75)))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [math.floor(down * (height - h + 1)), math.floor(right * (width - w + 1)), h, w]
    return None


def test_seeds_and_windows_equal_a_plain_scalar_computation():
    for number in range(20):
        uid = int.from_bytes(hashlib.sha256(KEYS[number].encode()).digest()[:8], "big")
        words = plain_philox((uid & 0xFFFFFFFF, uid >> 32, 0, 0), (ROOT_SEED & 0xFFFFFFFF, ROOT_SEED >> 32))
        seed = words[0] | words[1] << 32
        assert seeds_of(np.array([uid], np.uint64), ROOT_SEED)[0] == seed
        size = np.array([300], np.int32), np.array([400], np.int32)
        window = draw_views(Recipe(), np.array([seed], np.uint64), 5, *size).window[0].tolist()
        assert window == plain_window(seed, 5, 300, 400)


def test_more_views_or_fewer_samples_change_no_earlier_draw():
    seeds = seeds_of(np.array([uid_of(key) for key in KEYS], np.uint64), ROOT_SEED)
    sizes = np.full(100, 200, np.int32)
    whole = draw_views(Recipe(), seeds, 3, sizes, sizes)
    part = draw_views(Recipe(), seeds[40:60], 3, sizes[40:60], sizes[40:60])
    assert np.array_equal(part.window, whole.window[40:60])
    assert np.array_equal(part.drawn["flip"], whole.drawn["flip"][40:60])


def test_windows_lie_in_the_image_and_cover_the_stated_area():
    seeds = np.arange(20_000, dtype=np.uint64)
    heights, widths = np.full(20_000, 375, np.int32), np.full(20_000, 500, np.int32)
    top, left, height, width = draw_views(Recipe(), seeds, 0, heights, widths).window.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 375).all()
    assert (left + width <= 500).all()
    area = height * width / (375 * 500)
    assert area.min() > 0.045
    # Uniform on [0.05, 1] would have mean 0.525; the largest windows fit less often, so it is a little lower.
    assert 0.40 < area.mean() < 0.53


def test_one_pixel_images_have_one_pixel_windows():
    ones = np.ones(50, np.int32)
    window = draw_views(Recipe(), np.arange(50, dtype=np.uint64), 0, ones, ones).window
    assert window.tolist() == [[0, 0, 1, 1]] * 50


@pytest.mark.parametrize("count", [1, 2, 3, 100, 101])
def test_partners_are_pairs_and_an_odd_one_stays_alone(count):
    mix = Recipe().mixing.draw(np.arange(count, dtype=np.uint64), 7)
    partner, share = mix.partner, mix.weight
    assert np.array_equal(partner[partner], np.arange(count))
    alone = partner == np.arange(count)
    assert alone.sum() == count % 2
    assert (share[alone] == 1.0).all()
    assert (share[~alone] < 1.0).all()


def test_pairs_differ_from_view_to_view():
    seeds = np.arange(100, dtype=np.uint64)
    assert not np.array_equal(Recipe().mixing.draw(seeds, 0).partner, Recipe().mixing.draw(seeds, 1).partner)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(draws(), separators=(",", ":")) + "\n")
    sys.stdout.write(f"wrote {GOLDEN}\n")
