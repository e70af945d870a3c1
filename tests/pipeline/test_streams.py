"""Streams: what is on its way is never read before it has arrived, and what is made ahead is what is made in turn."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from trials.late import LateStreams

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.device.device import own_device
from stillroom.pipeline.device.prefetch import Ahead
from stillroom.pipeline.device.streams import Streams, streams_of, to_device
from stillroom.pipeline.render.mixing import _operation_by_operation, to_images
from stillroom.pipeline.render.renderer import digests
from stillroom.pipeline.render.view_digests import Hasher
from stillroom.pipeline.replay.batch import Batch

PIXELS = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def makers():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("streams", [Streams(torch.device("cpu")), LateStreams()])
def test_digests_that_are_asked_for_later_are_those_of_the_pixels(streams):
    hasher = Hasher(streams)
    asked = [hasher.begin(PIXELS[start:]) for start in range(4)]
    for start, found in enumerate(asked):
        assert np.array_equal(found(), digests(PIXELS[start:]))


def test_late_pixels_are_hashed_beside_the_thread_that_asks():
    streams = LateStreams()
    Hasher(streams).begin(PIXELS)()
    assert streams.waited
    assert threading.current_thread().name not in streams.waited


def test_the_host_has_nothing_to_wait_for():
    streams = streams_of(torch.device("cpu"))
    assert not streams.beside
    assert not streams.fetch(PIXELS).late
    assert streams.fetch(PIXELS).get() is PIXELS
    assert to_device(PIXELS, torch.device("cpu")) is PIXELS


def tens(count, log=None):
    try:
        for number in range(count):
            if log is not None:
                log.append(threading.current_thread().name)
            yield torch.full((3,), 10 * number)
    finally:
        if log is not None:
            log.append("closed")


def test_items_come_in_order_from_another_thread_and_are_taken_over():
    streams, log = LateStreams(), []
    found = list(Ahead(tens(7, log), streams, lambda item: [item]))
    assert [int(item[0]) for item in found] == [0, 10, 20, 30, 40, 50, 60]
    assert set(log) == {"ahead", "closed"}
    assert streams.joined == 7


def test_no_more_are_made_than_asked_for_and_one():
    log = []
    ahead = Ahead(tens(100, log), LateStreams(), lambda item: [item], most=1)
    for _ in range(3):
        next(ahead)
    ahead.close()
    assert log[-1] == "closed"
    assert 3 <= len(log) - 1 <= 4
    assert not makers()


def test_an_error_in_the_thread_is_the_callers():
    def failing():
        yield torch.zeros(1)
        raise OSError("the disk is gone")

    ahead = Ahead(failing(), LateStreams(), lambda item: [item])
    next(ahead)
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    assert list(ahead) == []


def test_one_that_is_forgotten_ends_its_thread():
    log = []
    ahead = Ahead(tens(100, log), LateStreams(), lambda item: [item])
    next(ahead)
    gone = weakref.ref(ahead)
    del ahead
    gc.collect()
    assert gone() is None
    assert log[-1] == "closed"
    assert not makers()


def test_mixing_divides_and_does_not_multiply_with_a_reciprocal():
    """x · (1/255) differs from x / 255 in the last bit of most numbers; CUDA does the former with a plain number."""
    every = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(-1, 1, 1, 3)
    share = np.linspace(0, 1, 256, dtype=np.float32)
    rows = np.arange(256)
    found = to_images(every, rows, rows[::-1].copy(), Mix(rows.astype(np.int32), share))[:, 0, 0, 0].numpy()
    own, other = rows.astype(np.float32), rows[::-1].astype(np.float32)
    exact = (own * share + other * (np.float32(1) - share)) / np.float32(255)
    assert exact.dtype == np.float32
    assert np.array_equal(found, exact)


def test_no_number_is_divided_by_that_a_gpu_would_take_the_reciprocal_of(monkeypatch):
    """Seen from here by what is handed to the division: a tensor on the pixels' device."""
    divide, divisors = torch.div, []
    monkeypatch.setattr(torch, "div", lambda x, y, **more: divisors.append(y) or divide(x, y, **more))
    _operation_by_operation(PIXELS, np.arange(len(PIXELS)), None, None)
    assert divisors
    assert all(isinstance(item, torch.Tensor) and item.device == PIXELS.device for item in divisors)


def test_a_batch_moves_with_all_of_its_tensors():
    n = 4
    batch = Batch(
        images=torch.zeros(n, 3, 2, 2),
        logits=torch.zeros(n, 10),
        labels=torch.zeros(n, dtype=torch.int64),
        partner_labels=torch.zeros(n, dtype=torch.int64),
        shares=torch.ones(n),
        uids=np.zeros(n, np.uint64),
        views=torch.zeros(n, dtype=torch.int64),
        sources=torch.zeros(n, dtype=torch.int64),
        other_images=None,
        proved=0,
    )
    moved = batch.to("meta", non_blocking=True)
    assert {tensor.device.type for tensor in moved.tensors()} == {"meta"}
    assert len(moved.tensors()) == 7


@pytest.mark.parametrize(
    ("variables", "visible", "begun", "wanted"),
    [
        ({}, 0, False, "cpu"),
        ({"LOCAL_RANK": "3"}, 0, False, "cpu"),
        ({}, 4, False, "cuda:0"),
        ({}, 4, True, "cuda:2"),
        ({"LOCAL_RANK": "3"}, 4, False, "cuda:3"),
        ({"LOCAL_RANK": "3"}, 1, False, "cuda:0"),
        ({"LOCAL_RANK": "1"}, 4, True, "cuda:1"),
    ],
)
def test_each_process_has_a_gpu_of_its_own(monkeypatch, variables, visible, begun, wanted):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: begun)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert own_device() == torch.device(wanted)
