"""Whole students on a stand-in for a GPU that is late: figures, checkpoints and errors are those of one that is not."""

import pytest
import safetensors.torch
import torch
from trials.late import LateStreams

from stillroom.pipeline.train.trainer import Trainer, from_labels
from stillroom.stages.student.checkpoint import load_checkpoint
from stillroom.stages.student.metrics import read_metrics
from stillroom.storage.errors import ModelError
from stillroom.storage.ledger.ledger import Ledger


@pytest.fixture(scope="module")
def cached(make_run):
    return make_run()


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setattr("stillroom.pipeline.train.trainer.streams_of", lambda _: LateStreams())


@pytest.fixture
def labels_fail(monkeypatch):
    """`labels_fail(step)`: the loss of that step is not finite."""

    def at(step):
        calls = iter(range(10**6))
        monkeypatch.setattr(
            "stillroom.stages.student.build.from_labels",
            lambda batch, logits: from_labels(batch, logits) * (torch.nan if next(calls) == step else 1.0),
        )

    return at


def trained(make_config, cached, run_stages, name, **changes):
    keys = {"name": name, "target": "labels", "epochs": 2, "batch_size": 8, **changes}
    config = make_config({"student": keys}, folder=cached.run.dir)
    (facts,) = run_stages(config, "student")["student"].results.values()
    return config, config.student_place(config.student[0]), facts


def weights_in(place):
    return safetensors.torch.load(place.read("weights.safetensors"))


@pytest.mark.slow
def test_its_figures_are_those_of_a_student_that_is_waited_for(make_config, cached, run_stages, late, monkeypatch):
    take, unknown = Trainer.train, []

    def watched(self, batch):
        unknown.append(self.step - len(self.streams.waited))
        return take(self, batch)

    monkeypatch.setattr(Trainer, "train", watched)
    _, behind, facts = trained(make_config, cached, run_stages, "behind", target="cache")
    epoch = facts["steps"] // 2
    assert unknown == [0, *[1] * (epoch - 1)] * 2, "all is known between epochs, all but one step within"

    def waited_for(self, batch):
        step = take(self, batch)
        self.settle()
        return step

    monkeypatch.setattr(Trainer, "train", waited_for)
    _, prompt, same = trained(make_config, cached, run_stages, "prompt", target="cache")
    assert facts["proved"] == same["proved"] > 0
    assert read_metrics(behind) == read_metrics(prompt)
    assert any(line["event"] == "train" and line["step"] == facts["steps"] for line in read_metrics(behind))
    first, second = weights_in(behind), weights_in(prompt)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("step", [0, 3, -1], ids=["the first", "one amid an epoch", "the last"])
def test_one_that_diverges_names_the_step_and_leaves_no_record(
    make_config, cached, run_stages, late, labels_fail, step
):
    name = f"diverges-{step}"
    config = make_config({"student": {"name": name, "target": "labels", "batch_size": 8}}, folder=cached.run.dir)
    student = config.student[0]
    last = 10**6
    if step < 0:
        _, _, facts = trained(make_config, cached, run_stages, f"as-long-{step}", epochs=student.epochs)
        last = facts["steps"] - 1
    failing = last if step < 0 else step
    labels_fail(failing)
    with pytest.raises(ModelError, match=rf"student '{name}' diverged at step {failing}: loss nan"):
        run_stages(config, "student")
    place = config.student_place(student)
    assert Ledger(place).get("student") is None
    assert load_checkpoint(place) is None, "what is kept on the way out is as in a student that is waited for: nothing"
    assert all(line["step"] <= failing for line in read_metrics(place))


@pytest.mark.slow
def test_a_checkpoint_of_one_that_failed_afterwards_is_of_steps_that_were_taken(
    make_config, cached, run_stages, late, labels_fail
):
    """It is written when the step is known to be taken, and so it goes on as if nothing had happened."""
    _, straight, _ = trained(make_config, cached, run_stages, "straight", checkpoint_minutes=0)
    labels_fail(4)
    with pytest.raises(ModelError, match="diverged at step 4"):
        trained(make_config, cached, run_stages, "stumbles", checkpoint_minutes=0)
    labels_fail(-1)
    _, stumbles, _ = trained(make_config, cached, run_stages, "stumbles", checkpoint_minutes=0)
    first, second = weights_in(straight), weights_in(stumbles)
    assert all(torch.equal(first[name], second[name]) for name in first)
