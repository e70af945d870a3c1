"""Pairs are mixed in the way that is drawn for each, by the pixels that labels then count."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stillroom.pipeline.augment.mixing import Mix, Mixing
from stillroom.pipeline.augment.recipe import FUNCTION_MATCHING
from stillroom.pipeline.augment.registry import mixing_of
from stillroom.pipeline.augment.steps import ONE
from stillroom.pipeline.render.mixing import to_images

COUNT = 20_001
SEEDS = np.arange(COUNT, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
BOTH = Mixing((mixing_of({"op": "mixup", "alpha": 0.8, "p": 0.3}), mixing_of({"op": "cutmix", "p": 0.5})))


@pytest.fixture(scope="module")
def mix():
    return BOTH.draw(SEEDS, 5)


def test_pairs_go_one_way_each_in_their_shares(mix):
    order = BOTH.pair_order(SEEDS, 5)
    first, second = order[: COUNT - 1 : 2], order[1:COUNT:2]
    boxed = (mix.box != 0).any(axis=1)
    added = (mix.weight < 1) & ~boxed
    alone = mix.partner == np.arange(COUNT)
    assert not (boxed & added).any()
    assert (boxed | added | alone).mean() > 0.999, "a box of no area, or a λ of 1, is all that is left"
    assert np.array_equal(alone[first], alone[second])
    assert (mix.partner[first][~alone[first]] == second[~alone[first]]).all()
    assert (mix.partner[second][~alone[first]] == first[~alone[first]]).all()
    for share, rows in ((0.3, added), (0.5, boxed), (0.2, alone)):
        assert abs(rows.mean() - share) < 0.02
    assert not (added[first] & boxed[second]).any()


def test_the_ways_shares_are_of_pairs(mix):
    order = BOTH.pair_order(SEEDS, 5)
    alone = (mix.partner == np.arange(COUNT))[order[: COUNT - 1 : 2]]
    assert stats.binomtest(int(alone.sum()), len(alone), 0.2).pvalue > 1e-4


def test_pairs_are_those_of_function_matching(mix):
    """Who is paired with whom does not depend on how they are mixed."""
    whole = FUNCTION_MATCHING.draw(SEEDS, 5)
    mixed = mix.partner != np.arange(COUNT)
    assert np.array_equal(mix.partner[mixed], whole.partner[mixed])
    assert not np.array_equal(mix.partner, whole.partner)


@pytest.mark.parametrize("size", [7, 32, 160, 224])
def test_labels_count_the_pixels_that_are_really_ones_own(mix, size):
    rows = np.arange(300)
    part = mix.take(rows)
    pixels = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    pixels[1] = 255
    images = to_images(pixels, np.zeros(300, np.int64), np.ones(300, np.int64), part)
    of_the_partner = images.double().mean(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(part.own_share(size), 1 - of_the_partner, atol=1e-5)


def test_a_box_is_the_partners_alone():
    size, box = 8, np.array([[ONE // 4, 0, ONE // 2, ONE]], np.int32)
    pixels = torch.stack([torch.full((size, size, 3), 51), torch.full((size, size, 3), 102)]).to(torch.uint8)
    mix = Mix(np.array([1], np.int32), np.ones(1, np.float32), box)
    image = to_images(pixels, np.array([0]), np.array([1]), mix)[0, 0]
    assert torch.equal(image[2:4], torch.full((2, size), 102 / 255))
    assert (image[:2] == 51 / 255).all()
    assert (image[4:] == 51 / 255).all()
    assert mix.own_share(size).tolist() == [0.75]


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_a_view_of_a_sample_is_mixed_alike_whoever_else_is_asked_for(count, view):
    """Within a data shard: another draw of the same shard is the same, and rows taken are the rows."""
    seeds = SEEDS[:count]
    whole = BOTH.draw(seeds, view)
    again = BOTH.draw(seeds, view).take(np.arange(count)[::-1].copy())
    assert np.array_equal(whole.partner[::-1], again.partner)
    assert np.array_equal(whole.weight[::-1], again.weight)
    assert (whole.box is None) == (again.box is None)
    assert whole.box is None or np.array_equal(whole.box[::-1], again.box)
    assert np.array_equal(whole.partner[whole.partner], np.arange(count))
