"""Several students from one pass over the data: each as if it were trained alone, and every batch decoded once."""

import pytest
import safetensors.torch
import torch

from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.train.trainer import Trainer
from stillroom.stages.run.shutdown import Stopped
from stillroom.stages.student.session import Session
from stillroom.stages.student.train_many import groups
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import TeacherLogits
from stillroom.storage.errors import ModelError

STUDENTS = [
    {"name": "cached", "temperature": 2.0},
    {"name": "larger", "size": 40, "epochs": 3},
    {"name": "labels", "target": "labels", "ema": 0.9},
    {"name": "online", "target": "online", "accumulate": 2},
]


@pytest.fixture(scope="module")
def cached(make_run):
    return make_run()


def config_of(make_config, cached, prefix, **changes):
    base = cached.student[0].model_dump() | {"epochs": 2}
    return make_config(
        {"student": [{**base, **student, **changes, "name": prefix + student["name"]} for student in STUDENTS]},
        folder=cached.run.dir,
    )


def weights_of(config):
    places = {student.name.partition("-")[2]: config.student_place(student) for student in config.student}
    return {name: safetensors.torch.load(place.read("weights.safetensors")) for name, place in places.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name]), name


@pytest.fixture(scope="module")
def alone(make_config, cached, run_stages):
    config = config_of(make_config, cached, "alone-")
    facts = run_stages(config, "student")["student"].results
    return config, {name.partition("-")[2]: found for name, found in facts.items()}


@pytest.mark.slow
def test_each_is_what_it_would_be_alone(make_config, cached, run_stages, alone, monkeypatch):
    config = config_of(make_config, cached, "many-")
    rendered = []
    stream = Renderer.stream
    monkeypatch.setattr(
        Renderer, "stream", lambda self, requests: stream(self, _counted(requests, rendered, self._batch))
    )
    (group,) = run_stages(config, "train-many")["train-many"].results.values()
    assert_same(weights_of(config), weights_of(alone[0]))
    for name, facts in group["students"].items():
        its_own = alone[1][name.partition("-")[2]]
        assert {**facts, "seconds": 0, "proved": 0} == {**its_own, "seconds": 0, "proved": 0}, name
        # A view that another student wants at the teacher's size is proved for all that learn from that teacher.
        assert facts["proved"] >= its_own["proved"]
    training = [count for size, count in rendered if size == 18]
    longest = max(student.epochs for student in config.student)
    steps = group["students"]["many-larger"]["steps"]
    assert len(training) == steps, "one request for each batch, whoever wants it"
    assert longest == 3
    assert run_stages(config, "student")["student"].ran == 0
    assert run_stages(config, "train-many")["train-many"].ran == 0


def _counted(requests, into, size):
    for request in requests:
        into.append((size, len(request.images)))
        yield request


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3, 17])
def test_a_group_that_is_killed_goes_on_exactly(make_config, cached, run_stages, alone, monkeypatch, limit):
    """Killed while one of them is at a step that others have not done, or have saved already."""
    config = config_of(make_config, cached, f"killed{limit}-", checkpoint_minutes=0)
    train, calls, taken = Trainer.train, iter(range(10**6)), []

    def until_killed(self, batch):
        if next(calls) == limit * len(STUDENTS) + 2:
            raise KeyboardInterrupt
        taken.append(self.step)
        return train(self, batch)

    monkeypatch.setattr(Trainer, "train", until_killed)
    with pytest.raises(KeyboardInterrupt):
        run_stages(config, "train-many")
    run_stages(config, "train-many")
    assert len(taken) == sum(facts["steps"] for facts in alone[1].values()), "each step is taken once"
    assert_same(weights_of(config), weights_of(alone[0]))


@pytest.mark.slow
def test_one_that_diverges_takes_nothing_from_the_others(make_config, cached, run_stages, monkeypatch):
    config = config_of(make_config, cached, "diverging-")
    take = Session.take

    def diverges(self, batch):
        if self.student.name == "diverging-labels" and self.step == 5:
            raise ModelError("diverged")
        take(self, batch)

    monkeypatch.setattr(Session, "take", diverges)
    with pytest.raises(ModelError, match="diverged"):
        run_stages(config, "train-many")
    kept = {student.name: config.student_place(student).size("checkpoint.pt") for student in config.student}
    assert all(kept[name] for name in ("diverging-cached", "diverging-larger", "diverging-online")), kept


def test_what_they_share_is_read_once(make_config, cached, run_stages, monkeypatch):
    """Students of one teacher and design share its logits; and a finished one gets no checkpoint any more."""
    base = cached.student[0].model_dump() | {"epochs": 1}
    students = [{**base, "name": f"shared-{number}", "temperature": 1.0 + number} for number in range(3)]
    config = make_config({"student": students}, folder=cached.run.dir)
    read, logits = [], TeacherLogits.logits
    monkeypatch.setattr(TeacherLogits, "logits", lambda self, *at: read.append(at) or logits(self, *at))
    run_stages(config, "train-many")
    assert len(read) == len(set(read)) == len(Cache(config.cache_place).layout.sizes)


@pytest.mark.slow
def test_a_finished_student_gets_no_checkpoint_from_a_later_stop(make_config, cached, run_stages, monkeypatch):
    config = config_of(make_config, cached, "ended-")
    take = Session.take

    def stops(self, batch):
        if self.student.name == "ended-larger" and self.step == 30:
            raise Stopped("SIGTERM")
        take(self, batch)

    monkeypatch.setattr(Session, "take", stops)
    with pytest.raises(Stopped):
        run_stages(config, "train-many")
    left = [student.name for student in config.student if config.student_place(student).size("checkpoint.pt")]
    assert left == ["ended-larger"]


def test_only_those_that_agree_on_batches_and_views_share_a_pass(make_config):
    students = [
        {"name": "a"},
        {"name": "b", "seed": 1},
        {"name": "c", "size": 64, "target": "labels"},
        {"name": "d", "views_used": 2},
        {"name": "e", "batch_size": 8},
        {"name": "f", "views_used": 4},
    ]
    found = groups(make_config({"student": students}))
    assert [[student.name for student in group] for group in found] == [["a", "c", "f"], ["b"], ["d"], ["e"]]
