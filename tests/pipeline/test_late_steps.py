"""Steps whose figures are late: the same training, the same state when one fails, and no waiting for the device."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from trials.late import LateStreams

from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.models.factory import Preprocessing
from stillroom.pipeline.replay.batch import Batch
from stillroom.pipeline.train.trainer import Trainer, from_labels
from stillroom.storage.errors import ModelError

STEPS = 6


@pytest.fixture
def streams(monkeypatch):
    """Of the device that trainers find."""
    late = LateStreams()
    monkeypatch.setattr("stillroom.pipeline.train.trainer.streams_of", lambda _: late)
    return late


def trainer(**settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    student = Student(name="s", model="timm:test_resnet", size=8, batch_size=4, target="labels", **settings)
    return Trainer(model, Preprocessing((0.5,) * 3, (0.25,) * 3), student, STEPS, from_labels)


def batch(number, bad=False):
    generator = torch.Generator().manual_seed(number)
    images, shares = torch.rand(4, 3, 8, 8, generator=generator), torch.ones(4)
    if bad:
        shares[1] = torch.nan
    labels = torch.arange(4)
    zeros = torch.zeros(4, dtype=torch.int64)
    return Batch(images, None, labels, labels, shares, np.zeros(4, np.uint64), zeros, zeros, None, 3)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, dict):
            assert_same(value, second[name])
        elif isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, second[name], rtol=0, atol=0)
        else:
            assert value == second[name], name


def test_steps_that_are_not_waited_for_are_the_same_steps(streams):
    waiting, ahead = trainer(), trainer()
    figures = []
    for number in range(STEPS):
        step = waiting.train(batch(number))
        figures.append((step.loss, step.gradient, step.rate, step.proved))
    steps = [ahead.train(batch(number)) for number in range(STEPS)]
    assert [(step.loss, step.gradient, step.rate, step.proved) for step in steps] == figures
    assert_same(waiting.state(), ahead.state())


def test_a_step_waits_for_the_one_before_and_for_no_other(streams):
    student = trainer()
    for number in range(STEPS):
        student.train(batch(number))
        assert len(streams.waited) == number
    student.settle()
    assert len(streams.waited) == STEPS


def test_a_late_device_trains_what_a_prompt_one_trains(monkeypatch):
    prompt = trainer()
    late = LateStreams()
    monkeypatch.setattr("stillroom.pipeline.train.trainer.streams_of", lambda _: late)
    behind = trainer()
    for number in range(STEPS):
        one, other = prompt.train(batch(number)), behind.train(batch(number))
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
    for name, value in prompt.model.state_dict().items():
        torch.testing.assert_close(value, behind.model.state_dict()[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("failing", [0, 1, 3])
@pytest.mark.parametrize("noticed", ["by the next step", "by a state that is asked for"])
def test_a_step_that_fails_is_raised_with_all_as_it_was_then(streams, failing, noticed):
    student, same = trainer(), trainer()
    for number in range(failing):
        student.train(batch(number))
        same.train(batch(number))
    before = copy.deepcopy(student.state())
    same.train(batch(failing, bad=True))
    with pytest.raises(ModelError) as expected:  # known at once
        same.settle()
    student.train(batch(failing, bad=True))
    with pytest.raises(ModelError, match=rf"student 's' diverged at step {failing}: loss nan, gradient nan") as raised:
        student.train(batch(failing + 1)) if noticed == "by the next step" else student.state()
    assert str(raised.value) == str(expected.value)
    found = student.state()
    assert found["step"] == failing
    assert_same(found["model"], same.state()["model"])
    parameters = [name for name, _ in student.model.named_parameters()]
    assert_same(
        {name: found["model"][name] for name in parameters}, {name: before["model"][name] for name in parameters}
    )
    for row, state in before["optimizer"]["state"].items():
        assert_same(state, found["optimizer"]["state"][row])


def test_it_goes_on_after_a_step_that_failed_as_if_that_had_not_been(streams):
    straight, stumbling = trainer(), trainer()
    straight.train(batch(0))
    stumbling.train(batch(0))
    kept = copy.deepcopy(stumbling.state())
    stumbling.train(batch(1, bad=True))
    with pytest.raises(ModelError):
        stumbling.settle()
    stumbling.restore(kept)
    for number in range(1, STEPS):
        straight.train(batch(number))
        stumbling.train(batch(number))
    assert_same(straight.state(), stumbling.state())


@pytest.mark.parametrize(
    "settings", [{"optimizer": "sgd", "learning_rate": 0.01}, {"optimizer": "lamb"}, {"ema": 0.9}], ids=str
)
def test_what_cannot_leave_an_update_out_on_the_device_waits(streams, settings):
    student = trainer(**settings)
    before = copy.deepcopy(student.model.state_dict())
    with pytest.raises(ModelError, match="diverged at step 0"):
        student.train(batch(0, bad=True))
    parameters = [name for name, _ in student.model.named_parameters()]
    assert all(torch.equal(before[name], student.model.state_dict()[name]) for name in parameters)


def test_a_state_of_one_device_goes_on_on_another(streams, monkeypatch):
    """AdamW as one kernel on the one, not on the other: each goes on as its own."""
    first = trainer()
    first.train(batch(0))
    kept = copy.deepcopy(first.state())
    monkeypatch.undo()
    second = trainer()
    second.restore(kept)
    assert not second.optimizer.param_groups[0].get("fused")
    second.train(batch(1))
    back = copy.deepcopy(second.state())
    monkeypatch.setattr("stillroom.pipeline.train.trainer.streams_of", lambda _: streams)
    third = trainer()
    third.restore(back)
    assert third.optimizer.param_groups[0]["fused"]
    third.train(batch(2, bad=True))
    with pytest.raises(ModelError, match="diverged at step 2"):
        third.settle()
