"""Resizing in integers is what its definition says, of any length to any size; beside Pillow and DALI."""

import hashlib
import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stillroom.pipeline.pixels.resize import filter_weights, resize

FILTERS = {
    "bilinear": (False, False),
    "bilinear-antialias": (False, True),
    "bicubic": (True, False),
    "bicubic-antialias": (True, True),
}


def plainly(length, size, cubic, antialias):
    """Rows of weights over all places, as exact rationals, as a textbook has them."""
    scale = Fraction(length, size)
    stretch = max(scale, 1) if antialias else 1
    rows = []
    for i in range(size):
        centre = (i + Fraction(1, 2)) * scale
        row = []
        for j in range(length):
            t = abs(j + Fraction(1, 2) - centre) / stretch
            if not cubic:
                row.append(max(1 - t, Fraction(0)))
            elif t < 1:
                row.append(Fraction(3, 2) * t**3 - Fraction(5, 2) * t**2 + 1)
            else:
                row.append(-Fraction(1, 2) * t**3 + Fraction(5, 2) * t**2 - 4 * t + 2 if t < 2 else Fraction(0))
        rows.append([value / sum(row) for value in row])
    return rows


def whole(row):
    """In 1/2^14, rounded half up; the first of the largest takes what is left."""
    found = [(2 * value * 2**14 + 1) // 2 for value in row]
    found[max(range(len(row)), key=lambda j: row[j])] += 2**14 - sum(found)
    return found


def by_definition(window, size, cubic, antialias):
    down, across = (
        np.array([whole(row) for row in plainly(length, size, cubic, antialias)], np.int64)
        for length in window.shape[:2]
    )
    columns = (np.einsum("yh,hwc->ywc", down, window.astype(np.int64)) + 64) >> 7
    return np.clip((np.einsum("xw,ywc->yxc", across, columns) + 2**20) >> 21, 0, 255).astype(np.uint8)


def ours(window, size, cubic, antialias):
    view = np.empty((size, size, 3), np.uint8)
    resize(np.ascontiguousarray(window), view, cubic, antialias)
    return view


@pytest.mark.parametrize("name", FILTERS)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_it_is_the_definition(name, height, width, size, seed):
    window = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(ours(window, size, *FILTERS[name]), by_definition(window, size, *FILTERS[name]))


@pytest.mark.parametrize("name", FILTERS)
@given(st.integers(1, 5000), st.integers(1, 600))
def test_weights_add_up_for_any_length(name, length, size):
    first, count, weights = filter_weights(length, size, *FILTERS[name])
    assert (weights.sum(axis=1) == 2**14).all()
    assert (first >= 0).all()
    assert (first + count <= length).all()
    assert (count > 0).all()


@pytest.mark.parametrize("name", FILTERS)
def test_weights_of_a_few_long_rows_are_exact(name):
    for length, size in ((5000, 7), (999, 224), (3, 224)):
        first, count, weights = filter_weights(length, size, *FILTERS[name])
        for i in {0, size // 2, size - 1}:
            row = whole(one_row(i, length, size, *FILTERS[name]))
            begin, end = int(first[i]), int(first[i] + count[i])
            assert row[begin:end] == weights[i, : end - begin].tolist()
            assert not any(row[:begin])
            assert not any(row[end:])


def one_row(i, length, size, cubic, antialias):
    """The same as `plainly`, of one place, in integers: Fractions would take minutes."""
    width = 2 * max(length, size) if antialias else 2 * size
    values = []
    for j in range(length):
        far = abs((2 * j + 1) * size - (2 * i + 1) * length)
        if not cubic:
            values.append(max(width - far, 0))
        elif far < width:
            values.append(3 * far**3 - 5 * far**2 * width + 2 * width**3)
        else:
            values.append(-(far**3) + 5 * far**2 * width - 8 * far * width**2 + 4 * width**3 if far < 2 * width else 0)
    return [Fraction(value, sum(values)) for value in values]


def test_the_longest_images_there_are_do_not_overflow():
    for length in (16_384, 65_535, 200_000):
        for cubic, antialias in FILTERS.values():
            _, _, weights = filter_weights(length, 5, cubic, antialias)
            assert (weights.sum(axis=1) == 2**14).all()
            assert (weights > -(2**11)).all()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_a_flat_window_stays_flat(name, level):
    for shape in ((1, 1), (3, 50), (77, 20)):
        assert (ours(np.full((*shape, 3), level, np.uint8), 16, *FILTERS[name]) == level).all()


@pytest.mark.parametrize("name", FILTERS)
def test_overshoot_is_clipped(name):
    checks = (np.indices((20, 20)).sum(axis=0) // 5 % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    assert np.array_equal(ours(checks, 33, *FILTERS[name]), by_definition(checks, 33, *FILTERS[name]))


def test_the_same_size_is_the_same_picture():
    window = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    for cubic, antialias in FILTERS.values():
        assert np.array_equal(ours(window, 24, cubic, antialias), window)


@pytest.mark.parametrize("name", ["bilinear-antialias", "bicubic-antialias"])
@pytest.mark.parametrize("shape", [(300, 301), (120, 60), (30, 200), (224, 500)])
def test_with_antialias_it_is_pillows(photo_of_size, name, shape):
    """But for Pillow's rounding to 8 bits between its passes, which it clips as well."""
    picture = Image.open(io.BytesIO(photo_of_size(*shape, 1).tobytes())).convert("RGB")
    kind = Image.Resampling.BICUBIC if "bicubic" in name else Image.Resampling.BILINEAR
    wanted = np.asarray(picture.resize((160, 160), kind)).astype(int)
    apart = np.abs(ours(np.asarray(picture), 160, *FILTERS[name]).astype(int) - wanted)
    assert apart.max() <= (8 if "bicubic" in name else 1)
    assert apart.mean() <= 0.25


def test_bits_are_those_that_were_first_made():
    """On every machine, by every compiler: digests of pictures made from integers alone."""
    found = {}
    y, x, c = np.indices((150, 170, 3))
    window = ((y * 7 + x * 13 + c * 31 + (y * x) // 11) % 256).astype(np.uint8)
    for name, (cubic, antialias) in FILTERS.items():
        shapes = (150, 170, 64), (33, 20, 96)
        views = [ours(window[:h, :w], size, cubic, antialias).tobytes() for h, w, size in shapes]
        found[name] = hashlib.sha256(b"".join(views)).hexdigest()[:16]
    assert found == DIGESTS


DIGESTS = {
    "bilinear": "290812dd566e6ff7",
    "bilinear-antialias": "1ab85aa2e3dc699a",
    "bicubic": "48ea7be2be8ac9b6",
    "bicubic-antialias": "c73d2a3f57c8339a",
}
