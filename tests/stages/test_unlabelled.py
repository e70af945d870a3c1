"""Images without labels: taught by a teacher of other images, in the teacher's own classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import webdataset
from conftest import MODEL, encoded_photo

from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.stages.estimate import probe
from stillroom.stages.estimate.estimate import estimate
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.ingest.demo_digits import write_digits
from stillroom.stages.ingest.demo_patches import write_patches
from stillroom.stages.run.executor import InProcess
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.student.build import student_classes
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.index import NO_LABEL
from stillroom.storage.errors import ConfigError, DataError, FingerprintError

DIGITS = tuple(str(digit) for digit in range(10))


def without_labels(train, digits, **more):
    return {"data": {"train": str(train), "holdout": 0.0, "labels": False, "eval": str(digits), **more}}


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """Some patches of photographs in a flat folder, and some deeper."""
    folder = tmp_path_factory.mktemp("patches")
    write_patches(folder)
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        if number % 8:
            path.unlink()
        elif number % 3 == 0:
            (folder / "some" / "deeper").mkdir(parents=True, exist_ok=True)
            path.rename(folder / "some" / "deeper" / path.name)
    return folder


@pytest.fixture(scope="module")
def finished(make_config, run_stages, digits, patches, tmp_path_factory):
    """A whole run of the untrained teacher over unlabelled patches."""
    config = make_config(without_labels(patches, digits), folder=tmp_path_factory.mktemp("unlabelled"))
    return config, run_stages(config, "ingest", "seeds", "teacher", "verify", "student", "report")


def labels_of(data):
    return np.concatenate([data.index(shard).label for shard in range(len(data.sizes))])


def test_any_folder_is_taken_and_says_that_it_has_no_labels(finished, patches):
    data = Dataset(finished[0].data_place)
    keys = [key for shard in range(len(data.sizes)) for key in data.index(shard).key]
    assert sorted(keys) == sorted(p.relative_to(patches).with_suffix("").as_posix() for p in patches.rglob("*.jpg"))
    assert "some/deeper" in {key.rpartition("/")[0] for key in keys}
    assert set(labels_of(data)) == {NO_LABEL}
    described = json.loads(finished[0].data_place.read("dataset.json"))
    assert described["classes"] == []
    assert described["ingest"]["data.labels"] is False


def test_teacher_and_student_tell_apart_the_teachers_own_classes(finished):
    config, _ = finished
    section = config.teacher[0]
    assert classes_of(config, Dataset(config.data_place), section) == DIGITS
    assert Cache(config.cache_place).teacher("t").info.classes == 10
    weights = config.student_place(config.student[0]).local("weights.safetensors")
    with safetensors.safe_open(weights, framework="pt") as opened:
        assert tuple(json.loads(opened.metadata()["classes"])) == DIGITS


def test_nothing_is_said_of_labels_that_are_not_there(finished):
    config, summaries = finished
    assert summaries["verify"].concluded["ok"]
    records = list(Cache(config.cache_place).ledger.records("teachers/t/blocks"))
    assert records
    assert all("top1" not in record.facts for record in records)
    page = config.run_place.read("report.html").decode()
    assert "without labels" in page
    assert "no label" in page


def test_a_batch_says_that_it_has_no_labels(finished):
    config, _ = finished
    loader = ReplayLoader(Cache(config.cache_place), data=str(config.data_place), batch_size=8, size=32, seed=0)
    batch = next(loader.epoch(0))
    assert set(batch.labels.tolist()) | set(batch.partner_labels.tolist()) == {NO_LABEL}
    assert batch.logits.shape == (8, 10)


def test_everything_is_done_when_it_is_run_again(finished, run_stages):
    again = run_stages(finished[0], "ingest", "seeds", "teacher", "verify", "student", "report")
    assert [summary.ran for summary in again.values()] == [0] * 6


@pytest.mark.slow
def test_plain_views_are_taught_too(make_config, run_stages, digits, patches, tmp_path):
    changes = without_labels(patches, digits) | {"cache": {"plain": True}, "views": {"mixup": False}}
    config = make_config(changes | {"student": {"design": "fixed"}}, folder=tmp_path)
    summaries = run_stages(config, "ingest", "seeds", "teacher", "verify", "student", "report")
    assert summaries["verify"].concluded["ok"]
    assert summaries["verify"].concluded["checks"]["plain"]["checked"] > 0
    records = [record.facts for record in Cache(config.cache_place).ledger.records("teachers/t/plain")]
    assert any("entropy" in facts for facts in records)
    assert all("top1" not in facts for facts in records)


def test_a_student_of_teachers_with_different_classes_is_refused(make_config, run_stages, patches, tmp_path):
    config = make_config(without_labels(patches, None, eval=None), folder=tmp_path)
    run_stages(config, "ingest")
    other = tmp_path / "other.safetensors"
    about = {"classes": json.dumps(list(reversed(DIGITS)))}
    other.write_bytes(safetensors.torch.save(build_model(MODEL, 10).state_dict(), about))
    first = config.teacher[0]
    second = first.model_copy(update={"name": "u", "weights": str(other)})
    student = config.student[0].model_copy(update={"teacher": ("t", "u")})
    two = config.model_copy(update={"teacher": (first, second)})
    assert student_classes(two, config.student[0], Dataset(config.data_place)) == DIGITS
    with pytest.raises(DataError, match="teachers t, u have different classes"):
        student_classes(two, student, Dataset(config.data_place))


def test_classes_of_labelled_images_are_not_looked_at(make_config, run_stages, digits, photos, tmp_path):
    config = make_config(without_labels(photos, digits), folder=tmp_path)
    run_stages(config, "ingest")
    data = Dataset(config.data_place)
    assert (set(labels_of(data)), data.classes) == ({NO_LABEL}, ())
    assert set(labels_of(Dataset(config.eval_place))) == set(range(10))


def test_tars_without_labels_are_indexed(make_config, run_stages, digits, tmp_path):
    path = tmp_path / "plain.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(6):
            item = {"__key__": f"s{number}", "jpg": encoded_photo(number)}
            writer.write(item | ({"cls": 99} if number % 2 else {}))
    config = make_config(without_labels(path, digits), folder=tmp_path / "run")
    run_stages(config, "ingest", "seeds", "teacher", "verify")
    data = Dataset(config.data_place)
    assert (data.samples, set(labels_of(data)), data.classes) == (6, {NO_LABEL}, ())
    assert not list(config.data_place.list("shards"))


@pytest.mark.slow
def test_estimate_counts_the_teachers_classes(make_config, run_stages, digits, patches, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.1)
    config = make_config(without_labels(patches, digits), folder=tmp_path)
    found = estimate(config, InProcess(), NoProgress())
    (plan,) = (plan for plan in found["plans"] if plan["views"] == config.views.count)
    run_stages(config, "teacher")
    for kind in ("logits", "evaluation"):
        names = config.cache_place.list(f"teachers/t/{kind}/c")
        assert plan["bytes"][kind] == pytest.approx(sum(map(config.cache_place.size, names)), rel=0.1), kind


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"target": "labels"}}, 'target = "labels", and data.labels is false'),
        ({"student": {"label_weight": 0.1}}, "label_weight = 0.1, and data.labels is false"),
        ({"data": {"holdout": 0.2}}, "data.holdout is 0.2, and data.labels is false"),
    ],
)
def test_a_config_that_needs_labels_is_refused(changes, words):
    tables = {
        "run": {"dir": "r"},
        "data": {"train": "x", "labels": False},
        "teacher": {"name": "t", "model": MODEL, "weights": "w.safetensors"},
        "student": {},
    }
    for name, table in changes.items():
        tables[name] = tables[name] | table
    with pytest.raises(ConfigError, match=words):
        parse_config(tables)
    tables["data"] |= {"labels": True}
    parse_config(tables)


def test_evaluation_images_of_another_task_are_refused_before_anything_is_written(
    make_config, run_stages, patches, photos, tmp_path
):
    config = make_config(without_labels(patches, photos), folder=tmp_path)
    with pytest.raises(DataError, match=r"data.eval has a class folder 'apple' that is not among the classes \(0, 1"):
        run_stages(config, "ingest")
    assert not list(tmp_path.rglob("*.tar"))


def test_evaluation_tars_of_other_classes_are_refused(make_config, run_stages, patches, tmp_path):
    path = tmp_path / "eval.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(12):
            writer.write({"__key__": f"s{number}", "jpg": encoded_photo(number), "cls": number})
    config = make_config(without_labels(patches, path), folder=tmp_path / "run")
    with pytest.raises(DataError, match=r"data.eval has label 11; there are 10 classes"):
        run_stages(config, "ingest")


def test_a_teacher_of_other_classes_than_the_evaluation_set_is_refused_by_name(make_config, finished, tmp_path):
    config, _ = finished
    other = tmp_path / "other.safetensors"
    about = {"classes": json.dumps(["cat", "dog"])}
    other.write_bytes(safetensors.torch.save(build_model(MODEL, 2).state_dict(), about))
    section = config.teacher[0].model_copy(update={"weights": str(other)})
    with pytest.raises(DataError, match=r"teacher 't': the weights .* has 2 classes \(cat, dog\), the evaluation data"):
        classes_of(config, Dataset(config.data_place), section)


def test_a_teacher_whose_classes_nothing_names_is_refused(make_config, run_stages, patches, tmp_path):
    plain = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(build_model(MODEL, 10).state_dict(), plain)
    tables = without_labels(patches, None, eval=None) | {"teacher": {"weights": str(plain)}}
    config = make_config(tables, folder=tmp_path / "run")
    with pytest.raises(DataError, match="nothing names the classes of teacher 't'"):
        run_stages(config, "ingest", "seeds", "teacher")
    tables["data"]["classes"] = list(DIGITS)
    named = make_config(tables, folder=tmp_path / "named")
    run_stages(named, "ingest", "seeds", "teacher", "student")
    assert classes_of(named, Dataset(named.data_place), named.teacher[0]) == DIGITS


def test_labels_belong_to_what_data_were_ingested_from(make_config, run_stages, photos, tmp_path):
    weights = tmp_path / "w.safetensors"
    safetensors.torch.save_file(build_model(MODEL, 3).state_dict(), weights)
    data = {"train": str(photos), "holdout": 0.0}
    run_stages(make_config({"data": data}, folder=tmp_path / "run"), "ingest")
    with pytest.raises(FingerprintError, match=r"data.labels = None, this run has data.labels = False"):
        run_stages(make_config({"data": data | {"labels": False}}, folder=tmp_path / "run"), "ingest")


@pytest.mark.slow
def test_a_student_that_never_saw_a_digit_learns_to_read_them(make_config, run_stages, digits, tmp_path):
    """A teacher of digits, asked about patches of two photographs; its student is evaluated on digits."""
    quick = {"epochs": 8, "batch_size": 64, "learning_rate": 3e-3, "eval_epochs": 30}
    write_digits(tmp_path / "digits")
    taught = make_config(
        {
            "data": {"train": str(tmp_path / "digits"), "holdout": 0.2, "samples_per_shard": 256},
            "views": {"count": 8, "area": [0.5, 1.0], "mixup": False},
            "teacher": [],
            "student": {"name": "teacher", "target": "labels", **quick},
        },
        folder=tmp_path / "teacher",
    )
    (teacher,) = run_stages(taught, "ingest", "seeds", "student")["student"].results.values()
    weights = Path(taught.run.dir) / "students" / "teacher" / "weights.safetensors"
    patches = tmp_path / "patches"
    write_patches(patches)
    config = make_config(
        {
            **without_labels(patches, digits, samples_per_shard=200),
            "views": {"count": 10, "area": [0.05, 1.0], "flip": True},
            "teacher": {"weights": str(weights)},
            "student": {**quick, "epochs": 30, "temperature": 2.0},
        },
        folder=tmp_path / "run",
    )
    (student,) = run_stages(config, "ingest", "seeds", "teacher", "student")["student"].results.values()
    shutil.rmtree(tmp_path / "run" / "students")
    still = make_config({}).student[0].model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    (start,) = run_stages(config.model_copy(update={"student": (still,)}), "student")["student"].results.values()
    print(f"teacher: {teacher}\nits student: {student}\nuntrained: {start}")
    assert teacher["top1"] > 0.9
    assert student["top1"] > start["top1"] + 0.1
    assert student["kl"] < 0.9 * start["kl"]
