"""Each optimiser learns, decays kernels only, and goes on exactly where it stopped."""

import io

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.models.weights.load import Weights, start_from
from stillroom.pipeline.train.optimizers import build_optimizer, rate_at, schedule_of
from stillroom.storage.errors import ModelError

NAMES = ("adamw", "sgd", "lamb", "shampoo")


@pytest.fixture(scope="module")
def digits():
    """Thirty-two real digits, thrice as large: float32 [32, 3, 24, 24], int64 [32]."""
    found = load_digits()
    images = torch.from_numpy(found.images[:32].astype(np.float32) / 16.0)
    return images.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, None].expand(-1, 3, -1, -1), torch.from_numpy(
        found.target[:32]
    )


def make(name, **changes):
    torch.manual_seed(0)
    model = build_model("timm:test_resnet", 10)
    settings = Student(optimizer=name, **{"learning_rate": 1e-2, "weight_decay": 1e-4} | changes)
    return model, build_optimizer(model, settings)


def train(model, optimizer, digits, steps):
    images, labels = digits
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_learns_real_digits(name, digits):
    losses = train(*make(name), digits, 20)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_exactly_from_tensors_alone(name, digits):
    straight = train(*make(name), digits, 12)
    model, optimizer = make(name)
    first = train(model, optimizer, digits, 6)
    kept = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, kept)
    kept.seek(0)
    state = torch.load(kept, weights_only=True)
    model, optimizer = make(name)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert first + train(model, optimizer, digits, 6) == straight


@pytest.mark.parametrize("name", NAMES)
def test_decay_shrinks_kernels_alone_and_by_rate_times_decay(name):
    model, optimizer = make(name, weight_decay=0.5)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for item in model.parameters():
        item.grad = torch.zeros_like(item)
    optimizer.step()
    for key, value in model.named_parameters():
        if name == "lamb" and value.ndim > 1:
            # LAMB scales each kernel's whole step, decay with it, to the kernel's own norm: rate × norm.
            shrunk = before[key] * (1 - 1e-2)
        else:
            shrunk = before[key] * (1 - 1e-2 * 0.5) if value.ndim > 1 else before[key]
        assert torch.allclose(value, shrunk, rtol=1e-5, atol=1e-7), key


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.5), ("quadratic", 0.25), ("constant", 1.0)], ids=lambda value: str(value)
)
def test_schedules_rise_linearly_and_fall_as_they_say(schedule, middle):
    assert [rate_at(step, 110, 10, schedule) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rate_at(60, 110, 10, schedule) == pytest.approx(middle)
    assert rate_at(110, 110, 10, schedule) == pytest.approx(1.0 if schedule == "constant" else 0.0)


def test_shampoo_has_the_papers_schedule_unless_told():
    assert schedule_of(Student(optimizer="shampoo")) == "quadratic"
    assert schedule_of(Student(optimizer="shampoo", schedule="cosine")) == "cosine"
    assert schedule_of(Student()) == "cosine"


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:mobilenet_v3_small", "timm:test_convnext"])
def test_pretrained_weights_come_in_whole_but_for_a_head_of_other_classes(name):
    torch.manual_seed(1)
    there, here = build_model(name, 7), build_model(name, 10)
    fresh = {key: value.clone() for key, value in here.state_dict().items()}
    start_from(here, name, Weights(there.state_dict(), "", {}, "w.safetensors"))
    differing = 0
    for key, value in here.state_dict().items():
        if value.shape == there.state_dict()[key].shape:
            assert torch.equal(value, there.state_dict()[key]), key
        else:
            differing += 1
            assert torch.equal(value, fresh[key])
    assert differing == 2


def test_weights_of_another_model_are_refused_by_the_first_tensor():
    with pytest.raises(ModelError, match=r"w\.safetensors do not fit timm:test_resnet: \S+ is"):
        start_from(
            build_model("timm:test_resnet", 10),
            "timm:test_resnet",
            Weights(build_model("torchvision:mobilenet_v3_small", 10).state_dict(), "", {}, "w.safetensors"),
        )
