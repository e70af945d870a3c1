"""A teacher whose classes are not the folders', and checkpoints of every form as teachers of one cache."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import CLASSES, MODEL, SIZE
from trials.checkpoints import FORMS

import stillroom
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.student.stage import is_trained
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, DataError, ModelError

MANY = 12
"""Classes of a teacher of other images; there are three folders."""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Weights of a head of other classes, whose file does not name them."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("many") / "many.safetensors"
    safetensors.torch.save_file(build_model(MODEL, MANY).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def finished(run_config, run_stages, many, tmp_path_factory):
    """A whole run of it, with an evaluation set, plain views, and a student."""
    config = run_config(
        tmp_path_factory.mktemp("run"),
        data={"holdout": 0.25},
        teacher={"weights": str(many), "classes": MANY},
        cache={"plain": True},
    )
    return config, run_stages(config, "ingest", "seeds", "teacher", "verify", "student", "report")


@pytest.mark.slow
def test_the_cache_and_its_student_have_the_teachers_classes(finished):
    config, summaries = finished
    assert summaries["verify"].concluded["ok"]
    cache = Cache(config.cache_place)
    assert cache.teacher("t").info.classes == MANY
    assert Dataset(config.data_place).classes == CLASSES
    weights = config.student_place(config.student[0]).local("weights.safetensors")
    with safetensors.safe_open(weights, framework="pt") as opened:
        assert json.loads(opened.metadata()["classes"]) == [f"class {number}" for number in range(MANY)]
        assert opened.get_tensor("fc.bias").shape == (MANY,)
    batch = next(iter(stillroom.ReplayLoader(cache, data=str(config.data_place), batch_size=6, size=SIZE, seed=0)))
    assert batch.logits.shape == (6, MANY)
    assert set(batch.labels.tolist()) <= {0, 1, 2}


@pytest.mark.slow
def test_no_accuracy_is_measured_against_labels_of_other_classes_but_kl_is(finished):
    config, summaries = finished
    records = {record.task: record.facts for record in Cache(config.cache_place).ledger.records("teachers/t")}
    kinds = {task.split("/")[2] for task, facts in records.items() if "entropy" in facts}
    assert kinds == {"blocks", "plain", "evaluation"}
    assert not [task for task, facts in records.items() if {"top1", "top5"} & facts.keys()]
    (facts,) = summaries["student"].results.values()
    assert facts["kl"] > 0
    assert not {"top1", "top5"} & facts.keys()
    page = config.run_place.read("report.html").decode()
    assert "class 1" in page


@pytest.mark.slow
def test_everything_is_done_when_it_is_run_again(finished, run_stages):
    again = run_stages(finished[0], "ingest", "seeds", "teacher", "student", "report")
    assert [summary.ran for summary in again.values()] == [0] * 5


@pytest.mark.slow
def test_a_teacher_of_its_own_classes_and_one_of_the_folders_stand_over_one_cache(
    finished, run_config, run_stages, weights
):
    config, _ = finished
    first = config.teacher[0]
    second = first.model_copy(update={"name": "u", "weights": str(weights), "classes": None})
    student = config.student[0].model_copy(update={"name": "of-u", "teacher": "u"})
    both = config.model_copy(update={"teacher": (first, second), "student": (student,)})
    found = run_stages(both, "teacher", "student")
    assert {facts["top1"] >= 0 for facts in found["student"].results.values()} == {True}
    assert Cache(both.cache_place).teacher("u").info.classes == 3
    mean = both.model_copy(update={"student": (student.model_copy(update={"name": "mean", "teacher": ("t", "u")}),)})
    with pytest.raises(ModelError, match=r"different numbers of classes cannot be averaged"):
        run_stages(mean, "student")


def test_other_classes_are_refused_unless_it_is_said(run_config, run_stages, many, tmp_path):
    config = run_config(tmp_path, teacher={"weights": str(many)})
    with pytest.raises(ModelError, match=rf"it is the classifier alone.*set classes = {MANY} in \[\[teacher\]\]"):
        run_stages(config, "ingest", "seeds", "teacher")


@pytest.mark.parametrize("stated", [5, ["a", "b", "c", "d", "e"]])
def test_a_number_that_is_not_the_files_is_refused(run_config, run_stages, many, tmp_path, stated):
    config = run_config(tmp_path, teacher={"weights": str(many), "classes": stated})
    with pytest.raises(ModelError, match=rf"fc\.bias is \[{MANY}\] there and \[5\] in the model"):
        run_stages(config, "ingest", "seeds", "teacher")


def test_a_file_that_names_its_classes_names_them_and_must_have_as_many(run_config, run_stages, tmp_path):
    names = ["ant", "bee", "cow", "dog"]
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(build_model(MODEL, 4).state_dict(), path, {"classes": json.dumps(names)})
    config = run_config(tmp_path / "run", teacher={"weights": str(path), "classes": 4})
    run_stages(config, "ingest", "seeds", "teacher")
    assert classes_of(config, Dataset(config.data_place), config.teacher[0]) == tuple(names)
    five = run_config(tmp_path / "run", teacher={"name": "five", "weights": str(path), "classes": 5})
    with pytest.raises(
        DataError, match=r"has classes = 5, and its weights, or the data, name 4 \(ant, bee, cow, dog\)"
    ):
        run_stages(five, "teacher")


def test_names_that_are_the_data_sets_make_labels_count(run_config, run_stages, weights, tmp_path):
    config = run_config(tmp_path, data={"holdout": 0.25}, teacher={"classes": list(CLASSES)})
    run_stages(config, "ingest", "seeds", "teacher")
    ledger = Cache(config.cache_place).ledger
    assert "top1" in ledger.get("teachers/t/evaluation").facts
    assert all("top1" in record.facts for record in ledger.records("teachers/t/blocks"))


@pytest.mark.parametrize("student", [{"label_weight": 0.1}, {"target": "labels"}])
def test_labels_of_other_classes_are_not_taught(run_config, tmp_path, student):
    with pytest.raises(ConfigError, match=r"teacher 't' states classes of its own, of which the labels say nothing"):
        run_config(tmp_path, teacher={"classes": MANY}, student=student)
    run_config(tmp_path, teacher={"classes": list(CLASSES)}, data={"classes": list(CLASSES)}, student=student)


@pytest.mark.parametrize("stated", [1, ["a"], ["a", "a"]])
def test_classes_that_cannot_be_are_refused(run_config, tmp_path, stated):
    with pytest.raises(ConfigError, match=r"two classes apart or more|names one class twice"):
        run_config(tmp_path, teacher={"classes": stated})


def test_without_labels_a_number_is_enough_to_name_a_teachers_classes(run_config, run_stages, many, tmp_path):
    config = run_config(tmp_path, data={"labels": False}, teacher={"weights": str(many), "classes": MANY})
    run_stages(config, "ingest", "seeds", "teacher", "student")
    assert Cache(config.cache_place).teacher("t").info.classes == MANY


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning:lightning", "ignore::Warning:torch")
def test_checkpoints_of_every_form_fill_one_cache_with_one_teachers_logits_and_each_teaches(
    run_config, run_stages, weights, tmp_path
):
    model = build_model(MODEL, 3)
    safetensors.torch.load_model(model, weights)
    paths = {"plain": Path(weights)}
    for form, write in FORMS.items():
        (tmp_path / form).mkdir()
        paths[form] = write(model, tmp_path / form)
    tables = {"model": MODEL, "size": SIZE, "batch_size": 16}
    config = run_config(
        tmp_path / "run",
        teacher=[{"name": form, "weights": str(path), **tables} for form, path in paths.items()],
        student=[
            {"name": form, "teacher": form, "model": MODEL, "size": SIZE, "epochs": 1, "batch_size": 8}
            for form in paths
        ],
    )
    found = run_stages(config, "ingest", "seeds", "teacher", "verify", "train-many")
    assert found["verify"].concluded["ok"]
    cache = Cache(config.cache_place)
    first = cache.teacher("plain").logits(0, 0)
    for form in FORMS:
        assert (cache.teacher(form).logits(0, 0) == first).all(), form
    assert all(is_trained(config, student) for student in config.student)
    said = [line for line in found["teacher"].results.values() if "weights" in line]
    assert len(said) == 3, "of averaged weights, twice, and of what was left out of Lightning's module"
