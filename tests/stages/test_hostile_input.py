"""Hostile data and weights through the stages: nothing is run, nothing is lost without a word, nothing is written."""

import io
import json
import os
import pickle
import tarfile

import pytest
import safetensors.torch
import torch
from trials import images

from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.models.weights.load import load_weights, read_weights
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DataError, ModelError
from stillroom.storage.ledger.ledger import Ledger

GOOD = images.real()["jpeg"]


class RunsWhenUnpickled:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_tar(path, members):
    """Members as (name, bytes), or (name, type of a member without data)."""
    with tarfile.open(path, "w") as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes) and len(what) == 1:
                info.type, info.linkname = what, "good0.jpg"
                tar.addfile(info)
            else:
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
    return path


def good(count=8):
    return [
        (f"good{n}.{kind}", data) for n in range(count) for kind, data in (("jpg", GOOD), ("cls", b"%d " % (n % 2)))
    ]


@pytest.fixture
def ingest_tar(make_config, run_stages, tmp_path):
    """Ingests a tar of those members beside eight good samples; the config."""

    def ingest(members, **settings):
        path = write_tar(tmp_path / "theirs.tar", [*good(), *members])
        data = {"train": str(path), "holdout": 0.0, "max_rejected": 1.0, **settings}
        config = make_config({"data": data}, folder=tmp_path / "run")
        run_stages(config, "ingest")
        return config

    return ingest


def rejected(config):
    lines = config.data_place.read("rejected.jsonl").decode().splitlines()
    return {json.loads(line)["key"]: json.loads(line)["reason"] for line in lines}


def test_every_sample_of_a_hostile_tar_is_taken_or_rejected_by_name(ingest_tar, tmp_path):
    evil = pickle.dumps(RunsWhenUnpickled(tmp_path / "ran"))
    config = ingest_tar(
        [
            ("link.jpg", tarfile.SYMTYPE), ("link.cls", b"1 "),
            ("hard.jpg", tarfile.LNKTYPE), ("hard.cls", b"1 "),
            ("fifo.jpg", tarfile.FIFOTYPE), ("device.jpg", tarfile.CHRTYPE),
            ("../../up.jpg", GOOD), ("../../up.cls", b"1 "),
            ("/etc/root.jpg", GOOD), ("/etc/root.cls", b"1 "),
            ("\udcfe.jpg", GOOD),
            ("code.pkl", evil), ("code.pyd", evil), ("code.pth", evil),
            ("both.jpg", GOOD), ("both.cls", b"1 "), ("both.pkl", evil), ("both.pth", evil), ("both.npy", evil),
            ("large.jpg", GOOD), ("large.cls", b"9" * 5000),
            ("many.jpg", GOOD), ("many.cls", b"2000000000"),
            ("deep.jpg", GOOD), ("deep.json", b"[" * 200_000),
            ("pickled.jpg", GOOD), ("pickled.cls", evil),
            ("scans.jpg", images.many_scans(2000, 2000, 300)), ("scans.cls", b"1 "),
            ("folder.jpg", tarfile.DIRTYPE), ("README", b"text"),
        ]
    )  # fmt: skip
    assert Dataset(config.data_place).index(0).key == (*(f"good{n}" for n in range(8)), "both")
    reasons = rejected(config)
    said = {
        "link": "a symbolic link",
        "hard": "a hard link",
        "fifo": "a FIFO",
        "device": "a character device",
        "../../up": "points out of the tar",
        "/etc/root": "points out of the tar",
        "\\udcfe": "not UTF-8",
        "code": "no image among its members (pkl, pth, pyd)",
        "large": "no label",
        "many": "its label is 2000000000; labels are below",
        "deep": "no label",
        "pickled": "no label",
        "scans": "301 scans",
    }
    assert reasons.keys() == said.keys()
    for key, reason in said.items():
        assert reason in reasons[key]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("field", [b"\x80" + b"\x00" * 6 + b"\x7f\xff\xff\xff\xff", b"\xff" * 12, b"77777777777\0"])
def test_a_tar_whose_sizes_lie_is_refused_and_nothing_is_recorded(make_config, run_stages, tmp_path, field):
    data = bytearray(write_tar(tmp_path / "x.tar", good()).read_bytes())
    data[124:136] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "x.tar").write_bytes(data)
    config = make_config({"data": {"train": str(tmp_path / "x.tar"), "holdout": 0.0}}, folder=tmp_path / "run")
    with pytest.raises(DataError, match=r"x\.tar is"):
        run_stages(config, "ingest")
    assert not [name for name in config.data_place.list() if not name.endswith(".error")]  # a note for people


def test_what_is_no_file_in_a_folder_is_rejected_by_name(make_config, run_stages, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "good.jpg").write_bytes(GOOD)
    a = tmp_path / "images" / "a"
    os.mkfifo(a / "fifo.jpg")
    (a / "broken.jpg").symlink_to(tmp_path / "absent.jpg")
    (a / "itself.jpg").symlink_to(a / "itself.jpg")
    (a / "linked").symlink_to(tmp_path / "images" / "b", target_is_directory=True)
    (a / "fine.jpg").symlink_to(a / "good.jpg")
    (a / "device.jpg").symlink_to("/dev/zero")
    with (a / "hole.jpg").open("wb") as file:
        file.truncate(2**40)
    data = {"train": str(tmp_path / "images"), "holdout": 0.0, "max_rejected": 1.0}
    config = make_config({"data": data}, folder=tmp_path / "run")
    run_stages(config, "ingest")
    reasons = rejected(config)
    assert {key.partition("/")[2] for key in reasons} == {"fifo", "broken", "itself", "linked", "device", "hole"}
    assert "no plain file" in reasons["a/fifo"]
    assert "No such file" in reasons["a/broken"]
    assert "has 1099511627776 bytes" in reasons["a/hole"]
    assert Dataset(config.data_place).samples == 3


# Tars that stay where they are are vouched for as a whole


def test_the_record_of_a_tar_that_stays_where_it_is_says_what_it_was(ingest_tar, tmp_path):
    config = ingest_tar([])
    record = Ledger(config.data_place).get("ingest/000000")
    path = tmp_path / "theirs.tar"
    assert record.facts["source"]["url"] == str(path)
    assert record.facts["source"]["size"] == path.stat().st_size


@pytest.fixture
def taught_from_tar(ingest_tar, run_stages, make_config, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "two.safetensors"
    safetensors.torch.save_file(build_model("timm:test_resnet", 2).state_dict(), path)

    def prepare():
        config = ingest_tar([])
        changes = {"data": {"train": config.data.train, "holdout": 0.0, "max_rejected": 1.0}}
        changes |= {"teacher": {"weights": str(path)}, "verify": {"share": 0.0}, "student": []}
        config = make_config(changes, folder=tmp_path / "run")
        run_stages(config, "seeds", "teacher")
        return config

    return prepare


def flip_in_the_padding(path):
    """A byte that no sample's digest covers."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [flip_in_the_padding, os.unlink])
def test_verify_finds_a_tar_that_has_changed_or_is_gone(taught_from_tar, run_stages, tmp_path, harm):
    config = taught_from_tar()
    assert run_stages(config, "verify", again=True)["verify"].concluded["ok"]
    harm(tmp_path / "theirs.tar")
    outcome = run_stages(config, "verify", again=True)["verify"].concluded
    assert not outcome["ok"]
    said = [item["message"] for item in outcome["failures"] if item["check"] == "objects"]
    assert any(str(tmp_path / "theirs.tar") in text and "restore the file" in text for text in said), outcome


# Models and weights


@pytest.mark.parametrize(
    "name",
    [
        "timm:hf-hub:someone/evil",
        "timm:local-dir:/tmp/evil",
        "timm:hf_hub:someone/evil",
        "timm:../evil",
        "torchvision:../evil",
        "torchvision:someone/repo",
        "torchvision:",
        "timm:a b",
        "timm:__import__('os')",
        "os:system",
    ],
)
def test_a_model_is_a_plain_name(name):
    with pytest.raises(ModelError, match=r"no plain name|there is no library"):
        build_model(name, 3)


def test_weights_whose_keys_are_no_names_are_refused(tmp_path):
    torch.save({1: torch.zeros(3), "a": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="no state dict"):
        read_weights(str(tmp_path / "w.pth"))


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_weights_that_hold_no_plain_tensors_do_not_fit(tmp_path):
    model = build_model("timm:test_resnet", 3)
    state = {key: value.to_sparse() if value.dim() == 2 else value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="do not fit"):
        load_weights(model, "timm:test_resnet", read_weights(str(tmp_path / "w.pth")))


@pytest.mark.parametrize("length", [0, 7, 2**20, 2**40, 2**63, 2**64 - 1])
def test_safetensors_whose_header_lies_are_refused(weights, tmp_path, length):
    path = tmp_path / "w.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + weights.read_bytes()[8:])
    with pytest.raises(ModelError, match="cannot be read as tensors"):
        read_weights(str(path))


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "object", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 4]},
    ],
)
def test_safetensors_whose_tensors_lie_are_refused(tmp_path, tensor):
    header = json.dumps({"a": tensor}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ModelError, match="cannot be read as tensors"):
        read_weights(str(path))
