"""Students: they learn, from each kind of target; they resume exactly; they refuse what they were not made from."""

import errno
import json
from contextlib import nullcontext

import numpy as np
import pytest
import safetensors.torch
import torch

from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.train.optimizers import build_optimizer
from stillroom.pipeline.train.trainer import Trainer
from stillroom.stages.ingest.demo_digits import write_digits
from stillroom.stages.student.checkpoint import load_checkpoint
from stillroom.stages.student.metrics import read_metrics
from stillroom.stages.student.session import Session
from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import (
    ConfigError,
    DamagedObjectError,
    FingerprintError,
    MissingObjectError,
    ModelError,
    StillroomError,
)
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.local import LocalPlace


@pytest.fixture(scope="module")
def cached(make_run):
    return make_run()


def student_of(make_config, cached, **changes):
    return make_config({"student": changes}, folder=cached.run.dir)


def weights_of(config):
    place = config.student_place(config.student[0])
    return safetensors.torch.load(place.read("weights.safetensors"))


@pytest.mark.parametrize("target", ["cache", "online", "labels"])
def test_each_kind_of_target_trains_and_leaves_weights_figures_and_metrics(make_config, cached, run_stages, target):
    config = student_of(make_config, cached, name=target, target=target, epochs=2)
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert 0.0 <= facts["top1"] <= facts["top5"] <= 1.0
    assert facts["kl"] > 0.0
    assert (facts["proved"] > 0) == (target == "cache")
    place = config.student_place(config.student[0])
    events = read_metrics(place)
    assert [event["step"] for event in events if event["event"] == "eval"] == [facts["steps"] // 2, facts["steps"]]
    assert any(name.startswith("tensorboard/events") for name in place.list())
    assert json.loads(place.read("result.json"))["top1"] == facts["top1"]
    assert weights_of(config).keys()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cache", "labels"])
def test_a_student_that_is_killed_at_any_step_goes_on_exactly(make_config, cached, run_stages, monkeypatch, target):
    steady = student_of(make_config, cached, name=f"steady-{target}", target=target, epochs=2)
    run_stages(steady, "student")
    killed = student_of(make_config, cached, name=f"killed-{target}", target=target, epochs=2, checkpoint_minutes=0)
    train, limit, taken = Trainer.train, iter([1, 9, 13, None]), []

    def until_killed(self, batch):
        if self.step == until_killed.limit:
            raise KeyboardInterrupt
        taken.append(self.step)
        return train(self, batch)

    monkeypatch.setattr(Trainer, "train", until_killed)
    for until_killed.limit in limit:
        with pytest.raises(KeyboardInterrupt) if until_killed.limit else nullcontext():
            run_stages(killed, "student")
    assert taken == list(range(len(taken))), "each step is taken once"
    one, other = weights_of(steady), weights_of(killed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    steps = [line["step"] for line in read_metrics(killed.student_place(killed.student[0])) if line["event"] == "eval"]
    assert len(steps) == len(set(steps)) == 2


KINDS = {
    "shampoo": {"optimizer": "shampoo", "precondition_steps": 2},
    "lamb": {"optimizer": "lamb"},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "averaged": {"ema": 0.9},
    "transfer": {"target": "labels", "weights": "WEIGHTS"},
    "hard labels too": {"label_weight": 0.3, "accumulate": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_train_learns_and_goes_on_exactly(
    make_config, cached, run_stages, monkeypatch, other_classes, kind
):
    """On real digits: the loss falls, and a student that is killed twice ends as one that is not."""
    changes = {key: str(other_classes) if value == "WEIGHTS" else value for key, value in KINDS[kind].items()}
    changes |= {"epochs": 4, "views_used": 2}
    name = kind.replace(" ", "-")
    steady = student_of(make_config, cached, name=f"steady-{name}", **changes)
    train, losses = Trainer.train, []

    def noted(self, batch):
        step = train(self, batch)
        losses.append(step.loss)
        return step

    monkeypatch.setattr(Trainer, "train", noted)
    run_stages(steady, "student")
    assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:8]), losses
    killed = student_of(make_config, cached, name=f"killed-{name}", checkpoint_minutes=0, **changes)
    taken = []

    def until_killed(self, batch):
        if self.step == until_killed.limit:
            raise KeyboardInterrupt
        taken.append(self.step)
        return train(self, batch)

    monkeypatch.setattr(Trainer, "train", until_killed)
    for until_killed.limit in (7, 23, None):
        with pytest.raises(KeyboardInterrupt) if until_killed.limit else nullcontext():
            run_stages(killed, "student")
    assert taken == list(range(len(losses))), "each step is taken once"
    one, other = weights_of(steady), weights_of(killed)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def other_classes(tmp_path_factory):
    """The student's own architecture, with a head of other classes."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("pretrained") / "seven.safetensors"
    path.write_bytes(safetensors.torch.save(build_model("timm:test_resnet", 7).state_dict()))
    return path


def test_weights_that_do_not_fit_are_refused_before_the_first_step(make_config, cached, run_stages, tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.torch.save(build_model("timm:test_efficientnet", 10).state_dict()))
    config = student_of(make_config, cached, name="unfit", weights=str(path))
    with pytest.raises(ModelError, match=r"other.safetensors"):
        run_stages(config, "student")
    gone = student_of(make_config, cached, name="unfit", weights=str(tmp_path / "gone.safetensors"))
    with pytest.raises(ModelError, match=r"gone.safetensors"):
        run_stages(gone, "student")
    assert not read_metrics(config.student_place(config.student[0]))


def test_a_finished_student_stands_when_the_weights_it_began_from_are_gone(make_config, cached, run_stages, tmp_path):
    path = tmp_path / "began.safetensors"
    path.write_bytes(safetensors.torch.save(build_model("timm:test_resnet", 10).state_dict()))
    config = student_of(make_config, cached, name="began", weights=str(path))
    assert run_stages(config, "student")["student"].ran == 1
    path.unlink()
    assert run_stages(config, "student")["student"].ran == 0
    path.write_bytes(safetensors.torch.save(build_model("timm:test_resnet", 9).state_dict()))
    with pytest.raises(FingerprintError, match=r"student.weights"):
        run_stages(config, "student")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": float("inf")}, r"student.*clip is inf"),
        ({"momentum": 1.0}, r"momentum is 1.0"),
        ({"model": "torchvision:fcn_resnet50"}, r"no classifier of that name"),
        ({"warmup_steps": 1000}, r"warmup_steps = 1000 and takes 11 steps in all"),
    ],
)
def test_settings_that_cannot_train_are_refused_before_the_first_step(
    make_config, cached, run_stages, changes, message
):
    with pytest.raises(StillroomError, match=message):
        run_stages(student_of(make_config, cached, name="cannot", **changes), "student")


def test_sgd_without_momentum_and_lamb_without_a_clip_of_its_own():
    model = build_model("timm:test_resnet", 10)
    assert build_optimizer(model, Student(optimizer="sgd", momentum=0.0)).defaults["momentum"] == 0.0
    assert build_optimizer(model, Student(optimizer="lamb")).defaults["max_grad_norm"] is None


def test_a_batch_larger_than_the_data_is_refused_before_the_first_step(make_config, cached, run_stages):
    with pytest.raises(ConfigError, match=r"batch_size is 4096 and there are \d+ samples; use a smaller batch_size"):
        run_stages(student_of(make_config, cached, name="large", batch_size=4096), "student")


def test_an_evaluation_that_a_kill_lost_is_made_up(make_config, cached, run_stages, monkeypatch):
    config = student_of(make_config, cached, name="unevaluated", epochs=2, checkpoint_minutes=0)
    monkeypatch.setattr("stillroom.pipeline.teacher.evaluation.EvaluationSet.logits", _killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_stages(config, "student")
    monkeypatch.undo()
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert {"top1", "top5", "kl"} <= facts.keys()
    steps = [line["step"] for line in read_metrics(config.student_place(config.student[0])) if line["event"] == "eval"]
    assert steps == [facts["steps"] // 2, facts["steps"]]


ERRORS = {
    "ctrl-c": KeyboardInterrupt(),
    "bad-data-shard": DamagedObjectError("shards/000001.tar is not what was written"),
    "full-disk": OSError(errno.ENOSPC, "No space left on device"),
    "any-other": RuntimeError("a bug"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_whatever_ends_a_student_between_two_steps_it_goes_on_from_there(
    make_config, cached, run_stages, monkeypatch, kind
):
    config = student_of(make_config, cached, name=f"ended-by-{kind}")
    take = Session.take

    def ends(self, batch):
        if self.step == 6:
            raise ERRORS[kind]
        take(self, batch)

    monkeypatch.setattr(Session, "take", ends)
    with pytest.raises(type(ERRORS[kind])):
        run_stages(config, "student")
    state = load_checkpoint(config.student_place(config.student[0]))
    assert state is not None
    assert state["step"] == 6


def test_a_student_that_cannot_be_saved_says_so_and_ends_with_the_first_error(
    make_config, cached, run_stages, monkeypatch, capsys
):
    config = student_of(make_config, cached, name="unsaved")

    def ends(self, batch):
        monkeypatch.setattr(Session, "keep", _disk_is_full)
        raise DamagedObjectError("shards/000001.tar is not what was written")

    monkeypatch.setattr(Session, "take", ends)
    with pytest.raises(DamagedObjectError):
        run_stages(config, "student")
    assert "student 'unsaved' goes on from its last checkpoint; saving failed: [Errno 28]" in capsys.readouterr().err


def _disk_is_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["weights.safetensors", "result.json", "ledger/student.json"])
def test_a_student_whose_end_cannot_be_written_keeps_its_last_step(make_config, cached, run_stages, monkeypatch, what):
    config = student_of(make_config, cached, name=f"unwritten-{what[:6]}")
    write = LocalPlace.write

    def fails(self, name, data):
        if name == what:
            _disk_is_full()
        write(self, name, data)

    monkeypatch.setattr(LocalPlace, "write", fails)
    with pytest.raises(OSError, match="No space left"):
        run_stages(config, "student")
    monkeypatch.undo()
    place = config.student_place(config.student[0])
    state = load_checkpoint(place)
    assert state is not None
    steps = state["step"]
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert facts["steps"] == steps
    assert [line["step"] for line in read_metrics(place) if line["event"] == "eval"] == [steps]
    assert place.size("checkpoint.pt") is None


def _killed(*_):
    raise KeyboardInterrupt


def test_a_student_that_diverges_stops_and_leaves_no_record(make_config, cached, run_stages, monkeypatch):
    config = student_of(make_config, cached, name="diverged")
    nowhere = lambda teacher, student, _: student.sum(1) * np.nan  # noqa: E731
    monkeypatch.setattr("stillroom.pipeline.train.trainer.kl_divergence", nowhere)
    with pytest.raises(ModelError, match=r"student 'diverged' diverged at step 0: loss nan"):
        run_stages(config, "student")
    assert Ledger(config.student_place(config.student[0])).get("student") is None


def test_a_student_replays_the_views_it_asks_for_of_a_larger_cache(make_config, make_run, run_stages):
    larger = make_run({"views": {"count": 8}})
    loader_views = {}
    for count in (4, 8):
        cache = Cache(larger.cache_place)
        loader = ReplayLoader(cache, data=str(larger.data_place), batch_size=16, size=32, seed=0, views=count)
        loader_views[count] = {int(view) for epoch in range(4) for batch in loader.epoch(epoch) for view in batch.views}
    assert max(loader_views[4]) < 4 <= max(loader_views[8])
    Cache(larger.cache_place).ledger.drop("teachers/t/blocks/000001.000003")
    assert Cache(larger.cache_place).teacher("t").finished_views() == 6


def test_a_second_epoch_ends_the_first_aloud(cached):
    loader = ReplayLoader(Cache(cached.cache_place), data=str(cached.data_place), batch_size=16, size=32, seed=0)
    first = loader.epoch(0)
    next(first)
    whole = [batch.uids for batch in loader.epoch(1)]
    assert len(whole) == loader.steps
    with pytest.raises(StillroomError, match="one epoch at a time"):
        next(first)


def test_a_student_of_other_settings_is_refused_by_name(make_config, cached, run_stages):
    run_stages(student_of(make_config, cached, name="settings"), "student")
    with pytest.raises(FingerprintError, match=r"student.temperature = 1.0, this run has student.temperature = 3.0"):
        run_stages(student_of(make_config, cached, name="settings", temperature=3.0), "student")


def test_a_student_asks_for_the_views_that_the_cache_does_not_have(make_config, cached, run_stages):
    config = make_config({"views": {"count": 8}, "student": {"name": "greedy"}}, folder=cached.run.dir)
    with pytest.raises(MissingObjectError, match=r"4 of 8 are laid out.*run `stillroom teacher` first"):
        run_stages(config, "student")


def test_a_student_does_not_need_the_teachers_weights(make_config, cached, run_stages):
    gone = {**cached.teacher[0].model_dump(), "weights": "gone.safetensors"}
    config = make_config({"teacher": [gone], "student": {"name": "alone"}}, folder=cached.run.dir)
    assert run_stages(config, "teacher")["teacher"].ran == 0
    assert run_stages(config, "student")["student"].ran == 1


@pytest.mark.slow
def test_students_of_the_cache_beat_students_of_the_labels(make_config, run_stages, tmp_path):
    """On all the digits, at equal steps, over three seeds; the teacher is one of the same size, trained on labels."""
    images = tmp_path / "digits"
    write_digits(images)
    plain = {"train": str(images), "samples_per_shard": 256}
    teacher = make_config(
        {
            "data": plain,
            "views": {"count": 16, "area": [0.5, 1.0], "mixup": False},
            "teacher": [],
            "student": {"name": "teacher", "target": "labels", "epochs": 16, "batch_size": 64, "learning_rate": 3e-3},
        },
        folder=tmp_path / "teacher",
    )
    (its_facts,) = run_stages(teacher, "ingest", "seeds", "student")["student"].results.values()
    weights = teacher.student_place(teacher.student[0]).local("weights.safetensors")
    students = [
        {
            "name": f"{target}-{seed}",
            "target": target,
            "seed": seed,
            "model": "timm:test_resnet",
            "size": 32,
            "epochs": 5,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "temperature": 2.0,
        }
        for target in ("cache", "labels")
        for seed in range(3)
    ]
    made = {**make_config().teacher[0].model_dump(), "weights": str(weights)}
    run = make_config(
        {
            "data": plain,
            "views": {"count": 6, "area": [0.25, 1.0], "mixup": True},
            "teacher": [made],
            "student": students,
        },
        folder=tmp_path / "run",
    )
    results = run_stages(run, "ingest", "seeds", "teacher", "student")["student"].results
    top1 = {target: [results[f"{target}-{seed}"]["top1"] for seed in range(3)] for target in ("cache", "labels")}
    print(f"teacher {its_facts['top1']:.4f}; top-1 by seed: {top1}")
    assert its_facts["top1"] > 0.95
    assert np.mean(top1["cache"]) > np.mean(top1["labels"]), top1
