"""Bad input through the command line: a clear sentence, the right exit status, no traceback, and nothing lost."""

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from stillroom.pipeline.models.factory import build_model
from stillroom.stages.cli.main import main
from stillroom.storage.cache.cache import Cache
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest
from stillroom.storage.objects.base import TEMPORARY
from stillroom.storage.objects.urls import open_place

CONSOLE = Path(sys.executable).with_name("stillroom")


@pytest.fixture(autouse=True)
def _this_process_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("WDS_SECURE", "1")
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def stillroom(capfd):
    """The command, in this process: exit status, standard output and standard error."""

    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return SimpleNamespace(status=ended.value.code, out=out, err=err)

    return call


def toml(path, tables):
    """Write plain data as TOML: JSON's scalars and lists are TOML's."""
    lines = []
    for name, table in tables.items():
        for item in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in item.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def config(tmp_path, run_tables):
    """Writes a configuration of a tiny run in this test's own folder."""

    def write(**changes):
        return toml(tmp_path / "run.toml", run_tables(tmp_path / "run", **changes))

    return write


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_tables):
    """A run with data, seeds and logits."""
    root = tmp_path_factory.mktemp("finished")
    path = toml(root / "run.toml", run_tables(root / "run"))
    for stage in ("ingest", "seeds", "teacher"):
        with pytest.raises(SystemExit) as ended:
            main([stage, str(path)])
        assert ended.value.code == 0
    return root / "run"


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it in this test's own folder."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def copied_photos(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path / "photos"


def contents(folder):
    """Every file but the notes that failed tasks leave."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".error"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_records_are_true(folder):
    """What a ledger lists is there, whole; nothing half written is left."""
    for root in (folder / "data", folder / "cache"):
        place = open_place(str(root))
        assert not [name for name in place.list() if TEMPORARY in name]
        for record in Ledger(place).records():
            for name, written in record.objects.items():
                assert ObjectDigest.of(place.read(name)) == written


# Usage and configuration: exit status 2, before anything is written


def test_an_unknown_key_is_named_with_the_nearest_one(stillroom, config, tmp_path):
    found = stillroom("run", config(views={"cuont": 4}))
    assert found.status == 2
    assert found.err == f"stillroom: {tmp_path}/run.toml: unknown key views.cuont; did you mean 'count'?\n"
    assert not (tmp_path / "run").exists()


def test_a_wrong_value_is_named(stillroom, config, tmp_path):
    found = stillroom("ingest", config(), "--set", "views.count=5")
    assert found.status == 2
    assert "views.count is 5, not a multiple of views.views_per_block (2)" in found.err
    assert not (tmp_path / "run").exists()


def test_a_mistyped_codec_is_found_before_any_work(stillroom, config, tmp_path):
    found = stillroom("ingest", config(cache={"codec": "flaot16"}))
    assert found.status == 2
    assert "cache.codec is 'flaot16'" in found.err
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_does_not_exist_is_named(stillroom, tmp_path):
    found = stillroom("run", tmp_path / "absent.toml")
    assert found.status == 2
    assert f"{tmp_path}/absent.toml does not exist" in found.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["distil", "run.toml"], "distil"),
        (["ingest"], "config"),
        (["ingest", "run.toml", "--dryrun"], "--dryrun"),
        (["ingest", "run.toml", "--workers", "many"], "many"),
        (["ingest", "run.toml", "--set"], "--set"),
    ],
)
def test_wrong_usage_is_named(stillroom, arguments, part):
    found = stillroom(*arguments)
    assert found.status == 2
    assert part.lower() in found.err.lower()


def test_no_cluster_at_an_address_is_named(stillroom, config):
    found = stillroom("ingest", config(), "--dask", "nonsense://nowhere")
    assert found.status == 2
    assert "nonsense://nowhere" in found.err


# Data


@pytest.mark.parametrize("train", ["absent", "absent/{000..003}.tar", "absent/000000.tar"])
def test_data_that_do_not_exist_are_named(stillroom, config, tmp_path, train):
    found = stillroom("ingest", config(data={"train": str(tmp_path / train)}))
    assert found.status == 1
    assert "data.train" in found.err
    assert str(tmp_path / "absent") in found.err


def test_a_folder_without_class_folders_is_named(stillroom, config, tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.jpg").write_bytes(b"x")
    found = stillroom("ingest", config(data={"train": str(tmp_path / "flat")}))
    assert found.status == 1
    assert f"{tmp_path}/flat" in found.err
    assert "no class folders" in found.err


def test_an_empty_class_folder_is_named_and_ingest_goes_on_once_it_is_filled(
    stillroom, config, copied_photos, tmp_path
):
    (copied_photos / "rowan").mkdir()
    path = config(data={"train": str(copied_photos)})
    found = stillroom("ingest", path)
    assert found.status == 1
    assert f"{copied_photos}/rowan is empty" in found.err
    shutil.copy(copied_photos / "pear" / "00.jpg", copied_photos / "rowan")
    assert stillroom("ingest", path).status == 0
    assert json.loads((tmp_path / "run/data/dataset.json").read_bytes())["classes"] == [
        "apple",
        "pear",
        "quince",
        "rowan",
    ]


def test_one_class_is_refused(stillroom, config, copied_photos):
    for name in ("pear", "quince"):
        shutil.rmtree(copied_photos / name)
    found = stillroom("ingest", config(data={"train": str(copied_photos)}))
    assert found.status == 1
    assert "one class (apple); there must be two or more" in found.err


def test_two_files_of_one_key_are_both_named(stillroom, config, copied_photos, tmp_path):
    shutil.copy(copied_photos / "pear" / "01.jpg", copied_photos / "pear" / "00.png")
    found = stillroom("ingest", config(data={"train": str(copied_photos)}))
    assert found.status == 1
    assert f"{copied_photos}/pear/00.jpg" in found.err
    assert f"{copied_photos}/pear/00.png" in found.err
    assert not (tmp_path / "run").exists()


def test_what_does_not_decode_is_rejected_by_name_and_the_rest_goes_on(stillroom, config, copied_photos, tmp_path):
    (copied_photos / "pear" / "00.jpg").write_bytes(b"no image at all")
    path = config(data={"train": str(copied_photos), "max_rejected": 0.2})
    assert stillroom("ingest", path).status == 0
    rejected = (tmp_path / "run/data/rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in rejected] == ["pear/00"]


def test_too_many_rejected_stop_it_and_a_larger_share_lets_it_go_on(stillroom, config, copied_photos, tmp_path):
    for number in range(4):
        (copied_photos / "pear" / f"0{number}.jpg").write_bytes(b"no image at all")
    found = stillroom("ingest", config(data={"train": str(copied_photos)}))
    assert found.status == 1
    assert "4 of 24 images of data.train were rejected" in found.err
    assert f"{tmp_path}/run/data/rejected.jsonl says why" in found.err
    assert len((tmp_path / "run/data/rejected.jsonl").read_text().splitlines()) == 4
    assert stillroom("ingest", config(data={"train": str(copied_photos), "max_rejected": 0.5})).status == 0


def test_where_no_image_can_be_used_no_limit_is_blamed(stillroom, config, copied_photos):
    for path in copied_photos.rglob("*.jpg"):
        path.write_bytes(b"no image at all")
    found = stillroom("ingest", config(data={"train": str(copied_photos), "max_rejected": 1.0}))
    assert found.status == 1
    assert "none of the 24 images of data.train can be used" in found.err
    assert "max_rejected" not in found.err


def test_an_evaluation_class_that_the_training_data_lack_is_named(stillroom, config, copied_photos):
    (copied_photos / "pear").rename(copied_photos / "plum")
    found = stillroom("ingest", config(data={"eval": str(copied_photos)}))
    assert found.status == 1
    assert "data.eval has a class folder 'plum'" in found.err


@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_a_tar_that_is_cut_short_is_named(stillroom, config, finished, tmp_path, keep):
    whole = (finished / "data/shards/000001.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: int(keep * len(whole))])
    found = stillroom("ingest", config(data={"train": f"{tmp_path}/a.tar", "max_rejected": 1.0}))
    assert found.status == 1
    assert f"{tmp_path}/a.tar" in found.err


# Data and caches that were made from something else: the field and both values


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        (
            "ingest",
            {"data": {"samples_per_shard": 12}},
            "data.samples_per_shard = 8, this run has data.samples_per_shard = 12",
        ),
        ("seeds", {"views": {"area": [0.25, 1.0]}}, "views.area = [0.05, 1.0], this run has views.area = [0.25, 1.0]"),
        ("teacher", {"views": {"seed": 8}}, "views.seed = '7', this run has views.seed = '8'"),
        ("student", {"views": {"mixup": False}}, "views.mixup = True, this run has views.mixup = False"),
        (
            "teacher",
            {"views": {"views_per_block": 4}},
            "views.views_per_block = 2, this run has views.views_per_block = 4",
        ),
        ("teacher", {"teacher": {"size": 24}}, "size = 32, this run has size = 24"),
        (
            "teacher",
            {"teacher": {"model": "timm:test_vit"}},
            "model = 'timm:test_resnet', this run has model = 'timm:test_vit'",
        ),
        ("teacher", {"cache": {"codec": "float32"}}, "codec = 'float16', this run has codec = 'float32'"),
    ],
)
def test_another_setting_is_refused_by_field_and_both_values(stillroom, config, copied, stage, change, said):
    before = contents(copied)
    found = stillroom(stage, config(**change))
    assert found.status == 1
    assert said in found.err
    assert str(copied) in found.err
    assert contents(copied) == before


def test_other_weights_are_refused_by_both_digests(stillroom, config, copied, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(build_model("timm:test_resnet", 3).state_dict(), path)
    found = stillroom("teacher", config(teacher={"weights": str(path)}))
    assert found.status == 1
    assert found.err.count("weights = '") == 2
    assert stillroom("teacher", config()).status == 0


def test_a_cache_of_another_data_set_is_refused(stillroom, config, copied, copied_photos):
    (copied_photos / "pear" / "00.jpg").unlink()
    other = config(data={"train": str(copied_photos), "dir": str(copied.parent / "other")})
    assert stillroom("ingest", other).status == 0
    before = contents(copied)
    for stage in ("seeds", "teacher", "student"):
        found = stillroom(stage, other)
        assert found.status == 1
        digests = [
            json.loads((root / "dataset.json").read_bytes())["digest"]
            for root in (copied / "data", copied.parent / "other")
        ]
        assert f"data = {digests[0]!r}, this run has data = {digests[1]!r}" in found.err
    assert contents(copied) == before


# Weights


def save(path, classes, metadata=None):
    torch.manual_seed(0)
    safetensors.torch.save_file(build_model("timm:test_resnet", classes).state_dict(), path, metadata)
    return path


@pytest.fixture
def teach(stillroom, config, copied, tmp_path):
    """Run a second teacher with those weights over the finished run, and see that it wrote no logits."""

    def call(weights, status=1, **changes):
        before = contents(copied / "cache")
        found = stillroom("teacher", config(teacher={"name": "u", "weights": str(weights), **changes}))
        assert found.status == status
        if status:
            assert contents(copied / "cache") == before
        return found

    return call


def test_weights_that_do_not_exist_are_named(teach, tmp_path):
    assert f"weights {tmp_path}/absent.safetensors do not exist" in teach(tmp_path / "absent.safetensors").err


def test_weights_of_another_model_are_named_with_a_tensor(teach, weights):
    said = teach(weights, model="timm:test_vit").err
    assert f"weights {weights} do not fit timm:test_vit: blocks.0.attn.proj.bias is missing there" in said


def test_weights_for_another_number_of_classes_are_named_with_both_shapes(teach, tmp_path):
    said = teach(save(tmp_path / "five.safetensors", 5)).err
    assert "do not fit timm:test_resnet: fc.bias is [5] there and [3] in the model" in said


def test_a_teacher_of_other_classes_is_named_with_both_counts(teach, tmp_path):
    path = save(tmp_path / "w.safetensors", 5, {"classes": json.dumps(["a", "b", "c", "d", "e"])})
    said = teach(path).err
    assert "trained on 5 classes (a, b, c, d, …)" in said
    assert "has 3 (apple, pear, quince)" in said


def test_a_teacher_of_as_many_other_classes_is_refused(teach, tmp_path):
    path = save(tmp_path / "w.safetensors", 3, {"classes": json.dumps(["pear", "apple", "quince"])})
    assert "trained on 3 classes (pear, apple, quince)" in teach(path).err


@pytest.mark.parametrize(
    "metadata", [{"classes": "apple,pear,quince"}, {"classes": "3"}, {"mean": "imagenet"}, {"std": "1"}]
)
def test_what_other_tools_write_into_weights_under_the_same_names_is_passed_over(teach, copied, tmp_path, metadata):
    teach(save(tmp_path / "w.safetensors", 3, metadata), status=0)
    cache = Cache(open_place(str(copied / "cache")))
    theirs, plain = (cache.teacher(name).info.fingerprint for name in ("u", "t"))
    assert {**theirs, "weights": ""} == {**plain, "weights": ""}


class RunsWhenUnpickled:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["pickle", "torch", "in a state dict"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_would_run_code_do_not(teach, tmp_path, how, suffix):
    path, ran = tmp_path / f"evil{suffix}", tmp_path / "ran"
    evil = RunsWhenUnpickled(ran)
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    elif how == "torch":
        torch.save(evil, path)
    else:
        torch.save({"state_dict": build_model("timm:test_resnet", 3).state_dict(), "more": evil}, path)
    assert str(path) in teach(path).err
    assert not ran.exists()
    # It is what it claims to be.
    pickle.loads(pickle.dumps(evil))
    assert ran.exists()


def a_checkpoint():
    return {"epoch": 3, "model": build_model("timm:test_resnet", 3).state_dict(), "lr": 0.1}


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"these are no weights"),
        lambda path: path.write_bytes(random.Random(0).randbytes(6400)),
        lambda path: path.write_bytes(b"\x80\x02" + bytes(50)),
        lambda path: zipfile.ZipFile(path, "w").close(),
        lambda path: torch.save([torch.zeros(3)], path),
        lambda path: torch.save(torch.zeros(3), path),
        lambda path: torch.save({"state_dict": 3}, path),
        lambda path: torch.save({"optimizer": a_checkpoint()["model"], "lr": 0.1}, path),
        lambda path: torch.save({"state_dict": a_checkpoint()}, path),
    ],
    ids=[
        "empty",
        "text",
        "noise",
        "pickle of nothing",
        "empty zip",
        "list",
        "tensor",
        "number",
        "under no known key",
        "nested",
    ],
)
def test_a_pth_that_holds_no_state_dict_is_named(teach, tmp_path, write):
    path = tmp_path / "weights.pth"
    write(path)
    assert str(path) in teach(path).err


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pth_with_a_state_dict_is_taken(teach, tmp_path, wrapped):
    state = build_model("timm:test_resnet", 3).state_dict()
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "w.pth")
    teach(tmp_path / "w.pth", status=0)


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_safetensors_that_are_cut_short_are_named(teach, weights, tmp_path, keep):
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights.read_bytes()[:keep])
    assert str(path) in teach(path).err


@pytest.mark.parametrize("model", ["resnet18", "timm:no_such_model", "torchvision:no_such_model", "keras:x"])
def test_a_model_that_does_not_exist_is_named(teach, weights, model):
    assert repr(model) in teach(weights, model=model).err


# Damage on disk


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_run_verifies(stillroom, config, copied):
    found = stillroom("verify", config(verify={"share": 0.1}), "--json")
    assert found.status == 0, found.err
    assert json.loads(found.out)["ok"] is True


@pytest.mark.parametrize(
    "name",
    [
        "cache/teachers/t/logits/c/1/1/0/0",
        "cache/seeds/c/0/0",
        "cache/seeds/zarr.json",
        "data/shards/000002.tar",
        "data/index/000000.parquet",
        "data/dataset.json",
        "cache/ledger/teachers/t/blocks/000001.000000.json",
    ],
)
@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_verify_names_what_is_damaged_or_gone(stillroom, config, copied, name, harm):
    harm(copied / name)
    found = stillroom("verify", config(verify={"share": 0.0}))
    assert found.status == 1
    assert name.partition("/")[2] in found.err


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"format": 1}', "{"])
def test_a_damaged_description_is_named(stillroom, config, copied, text):
    (copied / "data/dataset.json").write_text(text)
    found = stillroom("seeds", config())
    assert found.status == 1
    assert "dataset.json" in found.err


def test_what_is_said_of_a_damaged_description_helps(stillroom, config, copied):
    (copied / "data/dataset.json").write_text("{")
    assert "run ingest again" in stillroom("seeds", config()).err
    assert stillroom("ingest", config()).status == 0


def test_a_cache_that_grew_by_views_verifies(stillroom, config, copied):
    grown = config(views={"count": 6}, verify={"share": 0.0})
    assert stillroom("teacher", grown).status == 0
    found = stillroom("verify", grown)
    assert found.status == 0, found.err


# A full disk


def test_a_full_disk_during_ingest_loses_nothing_and_ingest_goes_on(
    stillroom, run_tables, small_disk, fill_disk, tmp_path
):
    folder = small_disk / "run"
    path = toml(tmp_path / "run.toml", run_tables(folder))
    ballast = fill_disk(small_disk, 72 << 10)
    found = stillroom("ingest", path)
    assert found.status == 1
    assert "No space left on device" in found.err
    done = list(Ledger(open_place(str(folder / "data"))).tasks())
    assert done
    assert not (folder / "data/dataset.json").exists()
    assert_records_are_true(folder)
    ballast.unlink()
    assert stillroom("ingest", path).status == 0
    assert_records_are_true(folder)
    assert set(done) < set(Ledger(open_place(str(folder / "data"))).tasks())
    assert str(folder) in found.err, "the sentence does not say which disk is full"


def test_a_full_disk_during_the_teachers_pass_loses_nothing_and_it_goes_on(
    stillroom, run_tables, finished, small_disk, fill_disk, tmp_path
):
    folder = small_disk / "run"
    path = toml(tmp_path / "run.toml", run_tables(folder))
    shutil.copytree(finished / "data", folder / "data")
    assert stillroom("seeds", path).status == 0
    ballast = fill_disk(small_disk, 56 << 10)
    found = stillroom("teacher", path)
    assert found.status == 1
    assert "No space left on device" in found.err
    assert list(Ledger(open_place(str(folder / "cache"))).tasks("teachers/t/blocks"))
    assert_records_are_true(folder)
    ballast.unlink()
    assert stillroom("teacher", path).status == 0
    assert_records_are_true(folder)
    theirs, ours = contents(finished / "cache/teachers"), contents(folder / "cache/teachers")
    assert ours == theirs
    assert str(folder) in found.err, "the sentence does not say which disk is full"


# --dry-run, and doing a thing twice


@pytest.mark.parametrize("stage", ["ingest", "seeds", "teacher", "verify", "student", "run"])
def test_a_dry_run_of_nothing_writes_nothing(stillroom, config, tmp_path, stage):
    path = config()
    found = stillroom(stage, path, "--dry-run")
    assert found.status == 0
    assert found.out
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run.toml"]


def test_a_dry_run_prints_the_tasks_that_are_left_and_writes_nothing(stillroom, config, copied):
    task = "teachers/t/blocks/000001.000001"
    Ledger(open_place(str(copied / "cache"))).drop(task)
    before = contents(copied)
    found = stillroom("teacher", config(), "--dry-run")
    assert (found.status, found.out) == (0, f"teacher: {task} (16 views)\n")
    assert stillroom("run", config(), "--dry-run").status == 0
    assert contents(copied) == before


def test_a_finished_stage_does_nothing_and_a_missing_task_is_done_alone(stillroom, config, copied):
    before = contents(copied)
    for stage in ("ingest", "seeds", "teacher"):
        found = stillroom(stage, config())
        assert found.status == 0
        assert "up to date" in found.out
    assert contents(copied) == before
    Ledger(open_place(str(copied / "cache"))).drop("teachers/t/blocks/000000.000000")
    (copied / "cache/teachers/t/logits/c/0/0/0/0").unlink()
    found = stillroom("teacher", config())
    assert found.status == 0
    assert "16 views" in found.out
    after, record = contents(copied), "cache/ledger/teachers/t/blocks/000000.000000.json"  # it says how long it took
    assert {**after, record: b""} == {**before, record: b""}


# The installed command, as a process of its own


@pytest.mark.slow
@pytest.mark.skipif(not CONSOLE.exists(), reason="the command is not installed beside this Python")
def test_the_installed_command_ends_with_the_same_statuses(config, tmp_path):
    path = str(config(data={"train": str(tmp_path / "absent")}))
    expected = [
        (["--help"], 0, ""),
        (["ingest", path, "--set", "views.cuont=3"], 2, "stillroom: "),
        (["ingest", path], 1, "stillroom: data.train is "),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([CONSOLE, *arguments], cwd=tmp_path, **pipes) for arguments, _, _ in expected]
    for process, (_, status, said) in zip(started, expected, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == status
        assert err.startswith(said)
        assert bool(err) == bool(status)
        assert bool(out) == (status == 0)
        assert "Traceback" not in err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run.toml"]


def test_status_of_what_does_not_exist_fails_too(stillroom, config, tmp_path):
    found = stillroom("status", config(data={"train": str(tmp_path / "absent")}), "--json")
    assert found.status == 1
    assert "data.train is " in found.err
