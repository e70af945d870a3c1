"""Steps on a CPU and as torch's operations are the same bits; a view's do not depend on what is beside it."""

import numpy as np
import pytest
import torch
from cases import CASES, called, made
from hypothesis import given
from hypothesis import strategies as st

from stillroom.pipeline.augment.operation import Draws
from stillroom.pipeline.augment.steps import ONE, Kind
from stillroom.pipeline.pixels import compiled, tensors
from stillroom.pipeline.pixels.painter import Painter
from stillroom.pipeline.pixels.placed import placed

PLAIN = [kind for kind in Kind if kind not in (Kind.NOTHING, Kind.AFFINE, Kind.SHIFT, Kind.BLUR, Kind.ERASE)]


def pictures(count, size, seed=0):
    """Noise, a flat one, one of a single channel, a ramp."""
    found = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)
    found[0] = 7
    found[1 % count, :, :, 1:] = 0
    found[2 % count] = np.linspace(20, 200, size)[:, None, None].astype(np.uint8)
    return found


def both_ways(views, steps):
    work = placed(steps, views.shape[1])
    here = views.copy()
    compiled.paint(here, work.steps, work.filters)
    there = torch.from_numpy(views.copy())
    tensors.paint(there, work)
    return here, there.numpy()


@pytest.mark.parametrize("size", [1, 2, 3, 33, 64])
@pytest.mark.parametrize("case", CASES, ids=called)
def test_a_cpu_and_torch_come_to_the_same_bits(case, size):
    operation = made(case)
    views = pictures(24, size)
    steps = operation.draw(Draws(np.arange(24, dtype=np.uint64), 3, operation.number), None, None)
    here, there = both_ways(views, steps)
    assert np.array_equal(here, there)
    assert size < 33 or not np.array_equal(here, views), "it did nothing"


numbers = st.integers(-4 * ONE, 4 * ONE)


@given(st.sampled_from(PLAIN), st.integers(0, 2 * ONE), st.integers(1, 9), st.integers(0, 99))
def test_levels_for_any_number(kind, number, size, seed):
    number = number % 9 if kind == Kind.POSTERIZE else number % 257 if kind == Kind.SOLARIZE else number
    steps = np.zeros((4, 1, 8), np.int32)
    steps[:, 0, :2] = kind, number
    assert np.array_equal(*both_ways(pictures(4, size, seed), steps))


@given(st.tuples(*[numbers] * 6), st.integers(0, 1), st.integers(0, 2**24 - 1), st.integers(1, 20))
def test_any_matrix(matrix, how, fill, size):
    steps = np.zeros((3, 1, 8), np.int32)
    steps[:, 0] = Kind.AFFINE, *matrix, how << 24 | fill
    assert np.array_equal(*both_ways(pictures(3, size), steps))


@given(st.tuples(*[st.integers(0, ONE)] * 4), st.integers(0, 2), st.integers(-(2**31), 2**31 - 1), st.integers(1, 20))
def test_any_box(edges, how, seed, size):
    (top, bottom), (left, right) = sorted(edges[:2]), sorted(edges[2:])
    steps = np.zeros((3, 1, 8), np.int32)
    steps[:, 0] = Kind.ERASE, top, left, bottom - top, right - left, how << 24 | 0x102030, seed, ~seed
    here, there = both_ways(pictures(3, size), steps)
    assert np.array_equal(here, there)


@given(st.integers(0, ONE), st.integers(1, 24))
def test_any_blur(sigma, size):
    steps = np.zeros((3, 1, 8), np.int32)
    steps[:, 0, :2] = Kind.BLUR, sigma
    here, there = both_ways(pictures(3, size), steps)
    assert np.array_equal(here, there)
    assert (here[0] == 7).all(), "weights that do not add up"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_view_does_not_depend_on_its_batch_or_on_threads(threads):
    count, views = 30, pictures(30, 20)
    drawn = []
    for case in CASES:
        operation = made(case)
        drawn.append(operation.draw(Draws(np.arange(count, dtype=np.uint64), 1, operation.number), None, None))
    painter = Painter(threads)
    together = torch.from_numpy(views.copy())
    painter.paint(together, drawn)
    for row in range(count):
        alone = torch.from_numpy(views[row : row + 1].copy())
        painter.paint(alone, [steps[row : row + 1] for steps in drawn])
        assert torch.equal(alone[0], together[row])


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=4), st.integers(1, 9))
def test_what_only_mirrors_is_what_all_kernels_make_of_it(axes, size):
    steps = np.zeros((3, len(axes), 8), np.int32)
    for place, axis in enumerate(axes):
        steps[:, place, :2] = (Kind.MIRROR, axis) if axis else (Kind.NOTHING, 0)
    views = pictures(3, size)
    here, there = both_ways(views, steps)
    painted = torch.from_numpy(views.copy())
    Painter(2).paint(painted, [steps])
    assert np.array_equal(here, there)
    assert np.array_equal(painted.numpy(), here)


def test_no_steps_leave_a_view_as_it_is():
    views = pictures(3, 8)
    tensor = torch.from_numpy(views.copy())
    Painter(1).paint(tensor, [np.zeros((3, 2, 8), np.int32)])
    assert np.array_equal(tensor.numpy(), views)
