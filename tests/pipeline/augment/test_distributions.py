"""Draws follow the distribution that they claim: Kolmogorov and Smirnov's test, or χ², over 100,000 draws."""

import numpy as np
import pytest
from scipy import stats

from stillroom.pipeline.augment.operation import Draws
from stillroom.pipeline.augment.operations.mixing.beta import symmetric_beta
from stillroom.pipeline.augment.operations.mixing.cutmix import CutMix
from stillroom.pipeline.augment.operations.mixing.mixup import Mixup
from stillroom.pipeline.augment.operations.policies.magnitudes import PAPER
from stillroom.pipeline.augment.registry import operation_of
from stillroom.pipeline.augment.steps import ONE, Kind
from stillroom.pipeline.rng import portable_math

COUNT = 100_000
SEEDS = np.arange(COUNT, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
UNLIKELY = 1e-4


def steps_of(**settings):
    operation = operation_of(settings)
    return operation.draw(Draws(SEEDS, 0, operation.number), None, None)


def is_uniform(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > UNLIKELY


def is_beta(values, alpha):
    """As Kolmogorov and Smirnov test it, but where a number is too near to 0 or 1 to be told from it."""
    places = np.linspace(1e-6, 1 - 1e-6, 20_001)
    found = np.searchsorted(np.sort(values), places, side="right") / len(values)
    apart = np.abs(found - stats.beta(alpha, alpha).cdf(places)).max()
    return stats.kstwo.sf(apart, len(values)) > UNLIKELY


def are_even(counts):
    return stats.chisquare(counts).pvalue > UNLIKELY


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 0.8, 1.0, 1.5, 4.0, 50.0])
def test_shares_are_of_a_symmetric_beta(alpha):
    found = symmetric_beta(Draws(SEEDS, 0, 4), alpha)
    assert is_beta(found, alpha)


def test_another_beta_would_be_noticed():
    found = symmetric_beta(Draws(SEEDS, 0, 4), 0.8)
    assert is_beta(found, 0.8)
    assert not is_beta(found, 0.85)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_a_view_is_mixed_by_a_beta_in_steps_that_float32_holds(alpha):
    weight, box = Mixup(alpha=alpha).draw(Draws(SEEDS, 0, Mixup.number))
    assert box is None
    assert is_beta(weight.astype(float), alpha)
    assert (weight.astype(float) * 2**24 % 1 == 0).all()
    assert (np.float32(1) - weight == 1 - weight.astype(float)).all()


def test_boxes_of_cutmix_have_the_area_of_a_beta_and_any_centre():
    _, box = CutMix(alpha=1.0).draw(Draws(SEEDS, 0, CutMix.number))
    edges = box / ONE
    whole = (edges[:, :2] > 0).all(axis=1) & (edges[:, 2:] < 1).all(axis=1)
    assert 0.1 < whole.mean() < 0.4, "most are cut off at an edge, some are not"
    sides = edges[whole, 2:] - edges[whole, :2]
    assert np.abs(sides[:, 0] - sides[:, 1]).max() < 2e-5
    # A box about (y, x) of half side h is cut off unless h < min(y, 1 − y, x, 1 − x): its area, where it is not, is
    # 1 − λ given that, of density (1 − s)² in s = √area.
    assert stats.kstest(sides[:, 0], lambda s: 3 * (s**2 / 2 - 2 * s**3 / 3 + s**4 / 4) * 4).pvalue > UNLIKELY


@pytest.mark.parametrize(
    ("settings", "kind", "column", "low", "high"),
    [
        ({"op": "color_jitter", "hue": 0, "contrast": 0, "saturation": 0}, Kind.BRIGHTNESS, 1, 0.6, 1.4),
        ({"op": "color_jitter", "brightness": 0, "contrast": 0, "saturation": 0}, Kind.HUE, 1, -0.1, 0.1),
        ({"op": "sharpness", "amount": 0.5}, Kind.SHARPNESS, 1, 0.5, 1.5),
        ({"op": "gaussian_blur", "p": 1.0}, Kind.BLUR, 1, 0.1 / 224, 2 / 224),
        ({"op": "shear", "x": 0.3}, Kind.AFFINE, 2, -0.3, 0.3),
        ({"op": "translate", "x": 0.2}, Kind.AFFINE, 3, -0.2, 0.2),
    ],
    ids=lambda value: value["op"] if isinstance(value, dict) else "",
)
def test_amounts_are_uniform(settings, kind, column, low, high):
    steps = steps_of(**settings)
    assert (steps[:, 0, 0] == kind).all()
    step = 1 / ONE  # numbers are rounded to it, which is made up for
    dither = (np.arange(COUNT) * 0.6180339887 % 1 - 0.5) * step
    assert is_uniform(steps[:, 0, column] / ONE + dither, low - step / 2, high + step / 2)


def test_angles_are_uniform():
    steps = steps_of(op="rotate", degrees=30)
    angles = np.degrees(np.arctan2(steps[:, 0, 4].astype(float), steps[:, 0, 1].astype(float)))
    assert is_uniform(angles, -30, 30)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.8])
@pytest.mark.parametrize("op", ["grayscale", "random_erasing", "gaussian_blur", "rotate"])
def test_each_acts_on_its_share_of_the_views(op, p):
    acted = steps_of(op=op, p=p)[:, :, 0].any(axis=1).sum()
    assert stats.binomtest(int(acted), COUNT, p).pvalue > UNLIKELY


def test_orders_of_a_colour_jitter_are_even():
    kinds = steps_of(op="color_jitter")[:, :, 0]
    _, counts = np.unique(kinds, axis=0, return_counts=True)
    assert len(counts) == 24
    assert are_even(counts)


def test_moves_of_pad_and_crop_are_even():
    steps = steps_of(op="pad_crop", padding=4 / 32)
    for column in (1, 2):
        moves = steps[:, 0, column] * 9 // ONE
        assert are_even(np.bincount(moves, minlength=9))


def test_erased_areas_and_aspects_are_uniform():
    steps = steps_of(op="random_erasing", p=1.0, area=[0.02, 0.1])
    height, width = steps[:, 0, 3] / ONE, steps[:, 0, 4] / ONE
    assert is_uniform(height * width, 0.02, 0.1)
    assert is_uniform(np.log(height / width), np.log(0.3), np.log(10 / 3))


def test_randaugment_chooses_evenly_and_with_either_sign():
    steps = steps_of(op="randaugment", n=1, magnitude=15)[:, 0]
    named = {
        Kind.NOTHING: 1,  # the identity
        Kind.AFFINE: 5,
        **dict.fromkeys((Kind.BRIGHTNESS, Kind.CONTRAST, Kind.SATURATION, Kind.SHARPNESS), 1),
        **dict.fromkeys((Kind.POSTERIZE, Kind.SOLARIZE, Kind.AUTOCONTRAST, Kind.EQUALIZE), 1),
    }
    counts = np.array([(steps[:, 0] == kind).sum() / share for kind, share in named.items()])
    expected = np.array(list(named.values())) * COUNT / len(PAPER)
    assert stats.chisquare(counts * list(named.values()), expected).pvalue > UNLIKELY
    bright = steps[steps[:, 0] == Kind.BRIGHTNESS, 1]
    assert set(bright) == {round(0.55 * ONE), round(1.45 * ONE)}
    assert stats.binomtest(int((bright > ONE).sum()), len(bright), 0.5).pvalue > UNLIKELY


def test_magnitudes_of_randaugment_are_normal():
    steps = steps_of(op="randaugment", n=1, magnitude=15, std=1.5)[:, 0]
    factor = steps[steps[:, 0] == Kind.BRIGHTNESS, 1] / ONE
    magnitude = np.abs(factor - 1) / 0.9 * 30
    assert stats.kstest(magnitude, stats.norm(15, 1.5).cdf).pvalue > UNLIKELY


def test_trivialaugment_takes_every_level_alike():
    steps = steps_of(op="trivialaugment_wide")[:, 0]
    factor = steps[steps[:, 0] == Kind.CONTRAST, 1] / ONE
    levels = np.rint(np.abs(factor - 1) / 0.99 * 30).astype(int)
    assert are_even(np.bincount(levels, minlength=31))


def test_autoaugment_takes_every_pair_alike():
    """Seen by a pair of its own: of 25, two share `solarize 0.6 5, autocontrast 0.6 5`, and one alone shears."""
    steps = steps_of(op="autoaugment")
    sheared = (steps[:, 0, 0] == Kind.AFFINE) & (steps[:, 0, 2] != 0) & (steps[:, 0, 4] == 0)
    assert stats.binomtest(int(sheared.sum()), COUNT, 0.6 / 25).pvalue > UNLIKELY


def test_logarithms_and_angles_are_those_of_the_library():
    values = np.random.default_rng(0).random(COUNT) * 2.0 ** np.random.default_rng(1).integers(-40, 3, COUNT)
    np.testing.assert_allclose(portable_math.log_each(values), np.log(values), rtol=1e-13, atol=1e-13)
    degrees = np.linspace(-360, 360, COUNT)
    for found, wanted in zip(portable_math.cos_sin(degrees), (np.cos, np.sin), strict=True):
        np.testing.assert_allclose(found, wanted(np.radians(degrees)), atol=1e-13)
