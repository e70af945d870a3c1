"""Images on a CPU are made in one pass on memory that is used again: the same bits as operation by operation."""

import gc

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.steps import ONE
from stillroom.pipeline.device.buffer_pool import Buffers
from stillroom.pipeline.render.mixing import _operation_by_operation, to_images


@given(
    st.integers(1, 9), st.integers(1, 12), st.integers(1, 7), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_one_pass_gives_the_bits_of_torchs_operations(rows, count, side, mixed, boxed, seed):
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.integers(0, 256, (rows, side, side, 3), np.uint8))
    own = rng.integers(0, rows, count)
    other = rng.integers(0, rows, count) if mixed else None
    share = rng.random(count, np.float32)
    share[0] = rng.choice([0.0, 1.0, share[0]])
    corners = np.sort(rng.integers(0, ONE + 1, (2, 2, count)), axis=0)
    box = corners.reshape(4, count).T.astype(np.int32) if boxed else None
    mix = Mix(np.zeros(count, np.int32), share, box)
    made, plain = (way(pixels, own, other, mix) for way in (to_images, _operation_by_operation))
    assert torch.equal(made, plain)
    assert made.dtype == plain.dtype == torch.float32
    assert made.stride() == plain.stride()


def test_every_byte_and_a_million_shares_round_alike():
    rng = np.random.default_rng(1)
    pixels = torch.from_numpy(rng.integers(0, 256, (64, 16, 16, 3), np.uint8))
    pixels.view(-1)[:256] = torch.arange(256, dtype=torch.uint8)
    own, other = rng.integers(0, 64, (2, 1500))
    share = rng.random(1500, np.float32)
    mix = Mix(np.zeros(1500, np.int32), share)
    assert torch.equal(to_images(pixels, own, other, mix), _operation_by_operation(pixels, own, other, mix))


def test_no_images_are_no_images():
    assert to_images(torch.zeros((3, 4, 4, 3), dtype=torch.uint8), np.zeros(0, np.int64)).shape == (0, 3, 4, 4)


def test_memory_is_used_again_only_when_nothing_refers_to_it():
    buffers = Buffers()

    def address(array):
        return array.__array_interface__["data"][0]

    first = buffers.take((4, 6))
    place = address(first)
    tensor = torch.from_numpy(first).permute(1, 0)[2:]
    part = first[1:].reshape(-1)
    del first
    for _ in range(2):
        assert address(buffers.take((4, 6))) != place
    del part
    assert address(buffers.take((4, 6))) != place
    array = tensor.numpy()
    del tensor
    assert address(buffers.take((4, 6))) != place
    del array
    gc.collect()
    taken = [buffers.take((6, 4)) for _ in range(3)]
    assert place in {address(array) for array in taken}
    assert len({address(array) for array in taken}) == 3


def test_few_free_buffers_are_kept():
    buffers = Buffers(keep=2)
    taken = [buffers.take((100,)) for _ in range(5)]
    del taken
    assert len(buffers._free) == 2


def test_batches_that_are_held_keep_their_numbers():
    rng = np.random.default_rng(2)
    pixels = torch.from_numpy(rng.integers(0, 256, (8, 32, 32, 3), np.uint8))
    held = [to_images(pixels, np.array([row, row])) for row in range(8)]
    for row, images in enumerate(held):
        assert torch.equal(images, _operation_by_operation(pixels, np.array([row, row]), None, None))
