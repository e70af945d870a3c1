"""What is asked of CUDA, and in which order, on a stand-in that notes it: no GPU is needed to see what is forgotten."""

from contextlib import contextmanager

import pytest
import torch

from stillroom.pipeline.device.cuda_graph import Graph
from stillroom.pipeline.device.streams import CudaStreams, to_device

GPU = torch.device("cuda", 0)


class Stream:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for event of {event.of}")


class Event:
    def __init__(self, log):
        self.log, self.of = log, None

    def record(self, stream):
        self.of = stream.name
        self.log.append(f"event on {stream.name}")

    def synchronize(self):
        self.log.append(f"host waits for event of {self.of}")


class Pixels:
    """A tensor on the device."""

    is_cuda, shape, dtype = True, (2, 3), torch.uint8

    def __init__(self, log):
        self.log = log

    def record_stream(self, stream):
        self.log.append(f"kept for {stream.name}")


class Host:
    """A tensor in pinned memory."""

    def __init__(self, log):
        self.log = log

    def copy_(self, source, non_blocking):
        self.log.append(f"copy on {self.log.current}, {'queued' if non_blocking else 'waited for'}")


class Log(list):
    current = "caller"


@pytest.fixture
def cuda(monkeypatch):
    """The notes."""
    log, names = Log(), iter(("work", "copies"))

    @contextmanager
    def within(stream):
        before, log.current = log.current, stream.name
        yield
        log.current = before

    @contextmanager
    def device(_):
        yield

    def empty(shape, dtype, pin_memory):
        assert (shape, dtype, pin_memory) == ((2, 3), torch.uint8, True)
        return Host(log)

    monkeypatch.setattr(torch.cuda, "Stream", lambda *_: Stream(log, next(names, "beside")))
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: Event(log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: Stream(log, log.current))
    monkeypatch.setattr(torch.cuda, "stream", within)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: log.append("all waited for"))
    log.empty = empty
    return log


def test_a_copy_waits_for_the_work_before_it_and_the_host_for_the_copy(cuda, monkeypatch):
    streams = CudaStreams(GPU)
    monkeypatch.setattr(torch, "empty", cuda.empty)
    arrival = streams.fetch(Pixels(cuda))
    assert cuda == ["copies waits for caller", "copy on copies, queued", "event on copies", "kept for copies"]
    assert arrival.late
    arrival.get()
    assert cuda[-1] == "host waits for event of copies"


def test_work_beside_is_on_its_own_stream_and_the_taker_waits_for_it_on_the_device(cuda, monkeypatch):
    streams = CudaStreams(GPU)
    monkeypatch.setattr(torch, "empty", cuda.empty)
    with streams.taken():
        streams.fetch(Pixels(cuda))
        join = streams.mark()
    join([Pixels(cuda), Pixels(cuda)])
    assert cuda[0] == "copies waits for work"
    assert cuda[-4:] == ["event on work", "caller waits for event of work", "kept for caller", "kept for caller"]
    assert not any("host" in line for line in cuda)


def test_what_is_on_the_host_already_is_not_fetched(cuda):
    tensor = torch.zeros(3)
    assert CudaStreams(GPU).fetch(tensor).get() is tensor
    assert cuda == []


def test_to_a_device_it_goes_by_pinned_memory_without_waiting(monkeypatch):
    calls = []
    tensor = torch.zeros(3)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, **how: calls.append((device, how)) or self)
    to_device(tensor, GPU)
    assert calls == ["pinned", (GPU, {"non_blocking": True})]


def test_a_graph_is_recorded_after_a_wait_and_its_answers_are_not_written_again(cuda, monkeypatch):
    class Recorded:
        def replay(self):
            cuda.append("replayed")
            graph._found.copy_(graph._given * 2)

    @contextmanager
    def recording(_, capture_error_mode):
        cuda.append(f"recording, {capture_error_mode}")
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    asked = []
    graph = Graph(lambda given: asked.append(1) or given * 2, torch.zeros(2, 3))
    assert cuda[0] == "all waited for"
    assert cuda[-1] == "recording, thread_local"
    assert len(asked) == 4
    one, other = graph(torch.ones(2, 3)), graph(torch.full((2, 3), 5.0))
    assert torch.equal(one, torch.full((2, 3), 2.0))
    assert torch.equal(other, torch.full((2, 3), 10.0))
    assert len(asked) == 4
