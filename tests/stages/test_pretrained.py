"""Weights by name: fetched once, at the stage that needs them, from a hub on the loopback or a folder of torch's."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch
from conftest import MODEL
from trials.hub import Hub

from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.config.weights_names import HubFile, LocalFile, Pretrained, parse_weights
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.models.weights import hub as fetching
from stillroom.pipeline.models.weights.location import at_hand, fetch
from stillroom.stages.cli.run_stages import Plan, run_stages
from stillroom.stages.maintenance.status import status_of
from stillroom.stages.run.build_cache import release
from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import ConfigError, FingerprintError, ModelError

REPO = "someone/apples"
WEIGHTS = f"hf://{REPO}/model.safetensors"
OF_TIMM = {"model": "timm:test_resnet.r160_in1k", "weights": "pretrained", "classes": 1000}
OF_TORCHVISION = {
    "model": "torchvision:squeezenet1_1?weights=IMAGENET1K_V1",
    "weights": "pretrained",
    "classes": 1000,
    "size": 64,
}
SQUEEZENET = "squeezenet1_1-b8a52dc0.pth"


def file_of(seed=0, model=MODEL, classes=3):
    torch.manual_seed(seed)
    return safetensors.torch.save(build_model(model, classes).state_dict())


def pth_of(model, classes, seed=0):
    torch.manual_seed(seed)
    sink = io.BytesIO()
    torch.save(build_model(model, classes).state_dict(), sink)
    return sink.getvalue()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, and libraries that know it, with nothing fetched yet."""
    served = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.url)
    template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"  # as HF_ENDPOINT makes it at import
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between its tries; nothing else here waits
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield served
    served.stop()


@pytest.fixture
def config(run_config, tmp_path):
    def make(**changes):
        teacher = {"weights": WEIGHTS} | changes.pop("teacher", {})
        return run_config(tmp_path / "run", teacher=teacher, **changes)

    return make


def call(config, *names, dry_run=False):
    return run_stages(config, Plan(names, dry_run=dry_run))


@pytest.mark.slow
def test_only_the_teacher_stage_fetches_and_only_once(hub, config):
    hub.put(REPO, "model.safetensors", file_of())
    made = config()
    call(made, "ingest", "seeds")
    call(made, "ingest", "teacher", "verify", "student", dry_run=True)
    status_of(made)
    assert at_hand(made.teacher[0]) is None
    assert hub.asked == []
    call(made, "teacher")
    assert [text for text in hub.asked if text.startswith("GET")] == [f"GET /{REPO}/resolve/main/model.safetensors"]
    count = len(hub.asked)
    release()  # as in a process of its own
    assert call(config(views={"count": 6}), "teacher") == 0
    assert len(hub.asked) == count
    hub.stop()
    release()
    assert call(config(views={"count": 8}), "teacher", "verify", "student", "report") == 0
    found = Cache(made.cache_place).teacher("t").info.fingerprint
    assert found["weights"] == hashlib.sha256(file_of()).hexdigest()


def test_a_file_that_changed_under_its_name_is_refused_by_both_digests(hub, config, tmp_path):
    hub.put(REPO, "model.safetensors", file_of(0))
    call(config(), "ingest", "seeds", "teacher")
    shutil.rmtree(tmp_path / "hf")
    hub.put(REPO, "model.safetensors", file_of(1))
    with pytest.raises(FingerprintError) as said:
        call(config(views={"count": 8}), "teacher")
    for seed in (0, 1):
        assert f"weights = '{hashlib.sha256(file_of(seed)).hexdigest()}'" in str(said.value)


def test_a_revision_keeps_a_file_the_same(hub, config):
    hub.put(REPO, "model.safetensors", file_of(0), revision="v1")
    hub.put(REPO, "model.safetensors", file_of(1))
    section = config(teacher={"weights": f"{WEIGHTS}@v1"}).teacher[0]
    assert Path(fetch(section)).read_bytes() == file_of(0)
    assert Path(fetch(config().teacher[0])).read_bytes() == file_of(1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf://no/such/model.safetensors", "the hub has no repository no/such, or it is private"),
        (f"hf://{REPO}/other.safetensors", "has no file other.safetensors at revision 'main'"),
        (f"{WEIGHTS}@v9", "has no revision 'v9'"),
    ],
)
def test_what_a_hub_does_not_have_is_named(hub, config, name, said):
    hub.put(REPO, "model.safetensors", file_of())
    with pytest.raises(ModelError, match=said):
        fetch(config(teacher={"weights": name}).teacher[0])


def test_without_a_network_it_is_said_what_to_do(hub, config):
    hub.stop()
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: .*Without a network.*hf download {REPO} model.safetensors"):
        call(config(), "ingest", "seeds", "teacher")
    assert not Path(config().run.dir).exists(), "before ingest begins"


def test_a_student_with_the_teacher_in_the_loop_does_not_fetch_it(hub, config):
    hub.put(REPO, "model.safetensors", file_of())
    made = config(student={"target": "online"})
    call(made, "ingest", "seeds")
    with pytest.raises(
        ModelError, match=r"weights hf://\S+ of teacher 't' are not fetched yet; run `stillroom teacher`"
    ):
        call(made, "student")
    assert hub.asked == []


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_timms_pretrained_weights_come_from_its_repository_by_timms_own_code(hub, config, name):
    there = file_of(0, OF_TIMM["model"], 1000) if name.endswith("safetensors") else pth_of(OF_TIMM["model"], 1000)
    hub.put("timm/test_resnet.r160_in1k", name, there)
    section = config(teacher=OF_TIMM).teacher[0]
    assert Path(fetch(section)).read_bytes() == there
    teacher = load_teacher(section, tuple(map(str, range(1000))))
    torch.manual_seed(0)
    for key, value in build_model(OF_TIMM["model"], 1000).state_dict().items():
        assert torch.equal(teacher.model.state_dict()[key], value), key
    assert teacher.fingerprint["weights"] == hashlib.sha256(there).hexdigest()
    assert teacher.fingerprint["mean"] == list(teacher.model.pretrained_cfg["mean"])


def test_pretrained_classes_over_ones_own_folders_must_be_said(hub, config):
    hub.put("timm/test_resnet.r160_in1k", "model.safetensors", file_of(0, OF_TIMM["model"], 1000))
    with pytest.raises(ModelError, match=r"tell 1000 classes apart, and 3 are needed; .* set classes = 1000"):
        call(config(teacher=OF_TIMM | {"classes": None}), "ingest", "seeds", "teacher")


def test_torchvisions_pretrained_weights_are_read_from_a_local_hub_folder(hub, config, tmp_path):
    path = tmp_path / "torch" / "hub" / "checkpoints" / SQUEEZENET
    path.parent.mkdir(parents=True)
    section = config(teacher=OF_TORCHVISION).teacher[0]
    assert at_hand(section) is None
    path.write_bytes(pth_of("torchvision:squeezenet1_1", 1000))
    assert at_hand(section) == fetch(section) == str(path)
    teacher = load_teacher(section, tuple(map(str, range(1000))))
    torch.manual_seed(0)
    for key, value in build_model("torchvision:squeezenet1_1", 1000).state_dict().items():
        assert torch.equal(teacher.model.state_dict()[key], value), key
    assert teacher.fingerprint["model"] == OF_TORCHVISION["model"]
    assert teacher.fingerprint["std"] == [0.229, 0.224, 0.225]


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_torchvisions_inception_is_built_as_it_is_for_its_own_weights(hub, config, tmp_path):
    path = tmp_path / "torch" / "hub" / "checkpoints" / "googlenet-1378be20.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(pth_of("torchvision:googlenet", 1000))
    section = config(teacher=OF_TORCHVISION | {"model": "torchvision:googlenet"}).teacher[0]
    assert load_teacher(section, tuple(map(str, range(1000)))).model.transform_input is True


def test_a_file_of_a_url_is_compared_with_the_digest_in_its_name(hub):
    data = file_of()
    good, bad = f"w-{hashlib.sha256(data).hexdigest()[:8]}.pth", "w-00000000.pth"
    for name in (good, bad):
        hub.put("some/files", name, data)
    path = Path(fetching.fetch_url("w", f"{hub.url}/some/files/resolve/main/{good}"))
    assert path.read_bytes() == data
    assert fetching.fetched_url(f"https://elsewhere/{good}") == str(path)
    with pytest.raises(ModelError, match=r"cannot be fetched \(invalid hash value .*put it at \S+/w-00000000.pth"):
        fetching.fetch_url("w", f"{hub.url}/some/files/resolve/main/{bad}")
    assert fetching.fetched_url(bad) is None


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"weights": "absent.pth"}, "weights absent.pth do not exist"),
        ({"weights": "s3://bucket/w.pth"}, "are at a URL; they are read from a local file"),
        (OF_TIMM | {"model": "timm:no_such_model"}, "timm has no model 'no_such_model'"),
        (OF_TIMM | {"model": "timm:test_resnet.no_such_tag"}, "timm has no weights 'test_resnet.no_such_tag'"),
        (OF_TIMM | {"model": "timm:resnet26t.x"}, "timm has no weights"),
        (OF_TORCHVISION | {"model": "torchvision:no_such_model"}, "torchvision has no model 'no_such_model'"),
        (
            OF_TORCHVISION | {"model": "torchvision:squeezenet1_1?weights=IMAGENET1K_V7"},
            "has no weights 'IMAGENET1K_V7'; it has: IMAGENET1K_V1",
        ),
    ],
)
def test_weights_that_are_missing_are_found_before_ingest_and_by_a_dry_run(hub, config, teacher, said):
    made = config(teacher=teacher)
    for dry_run in (False, True):
        with pytest.raises(ModelError, match=said):
            call(made, "ingest", "seeds", "teacher", dry_run=dry_run)
    assert not Path(made.run.dir).exists()
    assert call(made, "ingest", dry_run=True) == call(made, "ingest") == 0, "which asks no teacher"


def test_a_cache_that_is_filled_misses_no_weights(hub, config, tmp_path, weights):
    path = tmp_path / "w.safetensors"
    shutil.copy(weights, path)
    made = config(teacher={"weights": str(path)})
    call(made, "ingest", "seeds", "teacher")
    path.unlink()
    assert call(made, "ingest", "seeds", "teacher", "student") == 0
    assert call(made, "teacher", dry_run=True) == 0
    with pytest.raises(ModelError, match="do not exist"):
        call(config(teacher={"weights": str(path)}, views={"count": 8}), "ingest", "teacher")


def test_a_students_missing_weights_are_found_before_ingest_unless_another_student_leaves_them(config, tmp_path):
    made = config(teacher={"weights": "absent.pth"}, student={"weights": str(tmp_path / "absent.pth")})
    for names in (["ingest", "student"], ["train-many"]):
        with pytest.raises(ModelError, match=r"student 'student': weights \S+/absent.pth do not exist"):
            call(made, *names, dry_run=True)
    first, second = made.student[0].model_copy(update={"name": "first", "weights": None}), made.student[0]
    place = made.student_place(first).local("weights.safetensors")
    after = second.model_copy(update={"weights": str(place)})
    assert call(made.model_copy(update={"student": (first, after)}), "ingest", "student", dry_run=True) == 0


@pytest.mark.parametrize(
    ("model", "name", "named"),
    [
        ("timm:x", "w.pth", LocalFile("w.pth")),
        ("timm:x.a1_in1k", "pretrained", Pretrained("timm", "x.a1_in1k")),
        ("torchvision:x", "pretrained", Pretrained("torchvision", "x")),
        ("torchvision:x?weights=V2", "pretrained", Pretrained("torchvision", "x", "V2")),
        ("mine:x", "hf://a/b/c/d.bin@refs/pr/1", HubFile("a/b", "c/d.bin", "refs/pr/1")),
        ("mine:x", "hf://a/b/c.bin", HubFile("a/b", "c.bin", "main")),
        ("python:x", "", None),
    ],
)
def test_a_name_of_weights_is_understood(model, name, named):
    assert parse_weights(model, name) == named


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        ("mine:x", "pretrained", "library 'mine' brings none"),
        ("torchvision:x?weights=V2", "w.pth", 'it goes with model = "torchvision:NAME'),
        ("timm:x?weights=V2", "pretrained", 'it goes with model = "torchvision:NAME'),
        ("torchvision:x?size=3", "pretrained", "torchvision:NAME\\?weights=IMAGENET1K_V1"),
        ("timm:x", "hf://a/b", "are no file of a hub"),
        ("timm:x", "hf://a/b/../c.pth", "are no file of a hub"),
        ("timm:x", "hf://a/b/c.pth@", "are no file of a hub"),
        ("timm:x", "", "weights is missing; it has no default"),
    ],
)
def test_a_name_that_names_no_weights_is_refused_by_the_config(model, name, said):
    tables = tomllib.loads("run.dir = 'r'\ndata.train = 'x'")
    tables["teacher"] = {"name": "t", "model": model, "weights": name}
    with pytest.raises(ConfigError, match=said):
        parse_config(tables)


@pytest.mark.slow
def test_the_command_takes_the_libraries_own_environment(hub, run_tables, tmp_path):
    """A process of its own, as it is used: HF_ENDPOINT, HF_HOME, then no network at all."""
    hub.put(REPO, "model.safetensors", file_of())
    tables = run_tables(tmp_path / "run", teacher={"weights": WEIGHTS})
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {value!r}" for key, value in table.items())]
    (tmp_path / "run.toml").write_text("\n".join(lines))

    def stillroom(*arguments, **environment):
        command = [sys.executable, "-m", "stillroom.stages", *arguments, str(tmp_path / "run.toml")]
        found = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, **environment}
        return subprocess.run(command, env=found, capture_output=True, text=True, check=False, timeout=300)

    offline = stillroom("run", HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert f"stillroom: weights {WEIGHTS}" in offline.stderr
    assert "Without a network" in offline.stderr
    assert "Traceback" not in offline.stderr
    assert not (tmp_path / "run").exists()
    first = stillroom("run")
    assert first.returncode == 0, first.stderr
    shutil.rmtree(tmp_path / "run")
    again = stillroom("run", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert again.returncode == 0, again.stderr
