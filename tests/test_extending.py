"""What `docs/extending.md` shows works as it stands there, from a package that is not ours."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from stillroom.pipeline.augment import registry
from stillroom.pipeline.augment.operation import FOREIGN
from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.cli.main import main
from stillroom.stages.ingest.sources.open import open_source
from stillroom.stages.report.page import as_toml
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, DataError, ModelError, StoreError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest
from stillroom.storage.objects.local import LocalPlace

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The page's package, installed: a module for each example, and the entry points that name them."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    groups = []
    pointed = [block for block in blocks("toml") if "entry-points" in block]
    for block, code in zip(pointed, blocks("python"), strict=True):
        for group, points in tomllib.loads(block)["project"]["entry-points"].items():
            groups += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
            (value,) = points.values()
            (package / f"{value.partition(':')[0].rpartition('.')[2]}.py").write_text(code)
    about = tmp_path / "site" / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("\n".join(groups) + "\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry.registered.cache_clear()
    yield tmp_path / "site"
    for name in [name for name in sys.modules if name.startswith("my_package")]:
        del sys.modules[name]
    registry.registered.cache_clear()


def run_all(config, *names):
    for name in names:
        concluded = execute(stage_named(name), config, InProcess(), NoProgress()).concluded
        assert concluded is None or concluded["ok"]


def settings_of(page_block, run_tables, folder):
    views = tomllib.loads(page_block)["views"]
    return parse_config(run_tables(folder, views=views))


@pytest.mark.slow
def test_a_packages_operation_is_drawn_applied_and_replayed(installed, run_tables, tmp_path):
    config = settings_of(blocks("toml")[1], run_tables, tmp_path / "run")
    plain = parse_config(run_tables(tmp_path / "plain"))
    for each in (config, plain):
        run_all(each, "ingest", "seeds", "teacher", "verify", "student")
    rough, sharp = Cache(config.cache_place), Cache(plain.cache_place)
    assert rough.info.recipe["augment"] == [{"op": "jpeg_artifacts", "version": 1, "low": 50, "high": 100}]
    pictures = [torch.from_numpy(cache.teacher("t").canary(0).pixels).float() for cache in (rough, sharp)]
    changed = (pictures[0] != pictures[1]).float().mean()
    assert changed > 0.2, "nothing was done to it"
    assert (pictures[0] - pictures[1]).abs().mean() < 20, "it is another picture"


def test_a_cache_of_an_operation_that_is_gone_is_refused_by_name(installed, run_tables, tmp_path, monkeypatch):
    config = settings_of(blocks("toml")[1], run_tables, tmp_path / "run")
    run_all(config, "ingest", "seeds")
    with monkeypatch.context() as gone:
        gone.setattr(registry, "registered", dict)
        refused(config)


def refused(config):
    with pytest.raises(StoreError, match=r"no augmentation 'jpeg_artifacts'.*install the package"):
        Recipe.from_data(Cache(config.cache_place).info.recipe)


def test_its_number_comes_from_its_name_and_is_its_own(installed):
    kinds = registry.registered()
    assert kinds["jpeg_artifacts"].number >= FOREIGN
    assert len({kind.number for kind in kinds.values()}) == len(kinds)


def test_wrong_ranges_and_names_are_refused_with_the_nearest_name(installed, run_tables, tmp_path):
    for wrong, said in (
        ({"op": "jpeg_artifactsr"}, r"no augmentation 'jpeg_artifactsr'; did you mean 'jpeg_artifacts'"),
        ({"op": "jpeg_artifacts", "high": -1}, r"augmentation 'jpeg_artifacts': high: .*greater than or equal to 1"),
        ({"op": "jpeg_artifacts", "hihg": 1}, r"augmentation 'jpeg_artifacts' has no 'hihg'; did you mean 'high'"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_config(run_tables(tmp_path, views={"augment": [wrong]}))
    twice = [{"op": "jpeg_artifacts"}, {"op": "jpeg_artifacts"}]
    with pytest.raises(ConfigError, match=r"'jpeg_artifacts' stands twice"):
        parse_config(run_tables(tmp_path, views={"augment": twice}))


@pytest.mark.parametrize("labelled", [True, False])
def test_a_packages_source_is_ingested_like_a_folder(installed, run_tables, photos, tmp_path, labelled):
    files = sorted(photos.rglob("*.jpg"))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(photos).as_posix())
    data = {"train": f"zip:{tmp_path}/photos.zip", "labels": labelled}
    config, plain = (
        parse_config(run_tables(tmp_path / name, data=each, teacher=None, student=None))
        for name, each in (("zipped", data), ("plain", {"labels": labelled}))
    )
    for each in (config, plain):
        run_all(each, "ingest")
    zipped, folder = Dataset(config.data_place), Dataset(plain.data_place)
    assert zipped.description.digest == folder.description.digest
    assert zipped.classes == (("apple", "pear", "quince") if labelled else ())
    with zipfile.ZipFile(tmp_path / "photos.zip", "a") as archive:
        archive.write(files[0], "apple/another.jpg")
    changed = parse_config(run_tables(tmp_path / "zipped", data=data, teacher=None, student=None))
    (tmp_path / "zipped" / "data" / "ledger" / "ingest" / "000001.json").unlink()
    (tmp_path / "zipped" / "data" / "dataset.json").unlink()
    open_source.cache_clear()
    with pytest.raises(DataError, match=r"files of data.train have changed"):
        run_all(changed, "ingest")


def test_a_packages_executor_runs_tasks_of_any_stage(installed, run_tables, tmp_path, capsys):
    made = {}
    for name, more in (("threads", ["--executor", "threads:3"]), ("process", [])):
        config = parse_config(run_tables(tmp_path / name, teacher=None, student=None))
        path = tmp_path / f"{name}.toml"
        path.write_text(as_toml(config))
        with pytest.raises(SystemExit) as ended:
            main(["ingest", str(path), *more])
        assert ended.value.code == 0
        made[name] = Dataset(config.data_place).description.digest
    assert made["threads"] == made["process"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--executor", "thraeds:3"], "no executor 'thraeds'; did you mean 'threads'"),
        (["--executor", "dask"], "executor dask: say where, as dask:local"),
        (["--executor", "process:2"], "this process is nowhere else"),
        (["--dask", "local", "--executor", "threads"], "--dask local is short for --executor dask:local"),
    ],
)
def test_an_executor_that_is_not_there_is_refused_with_the_nearest_name(
    installed, run_tables, tmp_path, capsys, options, said
):
    path = tmp_path / "config.toml"
    path.write_text(as_toml(parse_config(run_tables(tmp_path / "run"))))
    with pytest.raises(SystemExit) as ended:
        main(["ingest", str(path), *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_packages_stage_is_a_command_like_any_other(installed, run_tables, tmp_path, capsys):
    config = parse_config(run_tables(tmp_path / "run"))
    run_all(config, "ingest")
    path = tmp_path / "config.toml"
    path.write_text(as_toml(config))
    for said in ("24 images in", "up to date"):
        with pytest.raises(SystemExit) as ended:
            main(["histogram", str(path)])
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
    labels = Dataset(config.data_place).index(0).label
    assert [int(label) for label in config.run_place.read("histogram/000000.txt").split()] == labels.tolist()
    record = Ledger(config.run_place).get("histogram/000002")
    assert record is not None
    assert record.facts == {"images": 8}


def test_a_stage_that_nobody_brings_is_no_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["histogramm", "config.toml"])
    assert ended.value.code == 2
    assert "histogramm" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"there is no stage 'histogramm'; there are: ingest, seeds"):
        stage_named("histogramm")


@pytest.mark.slow
def test_a_packages_codec_keeps_logits_within_what_it_promises(installed, run_tables, tmp_path):
    """In processes of their own, as Zarr looks for codecs when it is imported."""
    path = tmp_path / "config.toml"
    path.write_text(as_toml(parse_config(run_tables(tmp_path / "run"))))
    # Here the codec is known, too, and so the cache can be looked at.
    command = [sys.executable, "-m", "stillroom.stages", "run", str(path), "--set", 'cache.codec="fixed16"']
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "t: fixed16, " in done.stdout
    (record, *_) = Ledger(LocalPlace(tmp_path / "run/cache")).records("teachers/t/blocks")
    assert record.facts["codec"]["name"] == "fixed16"
    assert 0.0 < max(record.facts["codec"]["kl_mean"]) < 1e-4
    metadata = json.loads((tmp_path / "run/cache/teachers/t/logits/zarr.json").read_text())
    assert metadata["codecs"][0]["configuration"]["codecs"][0]["name"] == "my_package.fixed16"
    gone = subprocess.run(
        [*command[:3], "verify", str(path), "--set", "cache.codec=fixed16"], capture_output=True, text=True, check=False
    )
    assert gone.returncode == 2
    assert "cache.codec is 'fixed16'" in gone.stderr


def test_a_cache_of_a_codec_that_is_not_installed_is_refused_by_name(tmp_path, run_tables):
    config = parse_config(run_tables(tmp_path / "run"))
    run_all(config, "ingest", "seeds", "teacher")
    name = "teachers/t/logits/zarr.json"
    metadata = config.cache_place.read(name).replace(b'"blosc"', b'"my_package.fixed16"')
    config.cache_place.write(name, metadata)
    cache = Cache(config.cache_place)
    task = "teachers/t/layout/000004"
    record = cache.ledger.get(task)
    assert record is not None
    cache.ledger.put(replace(record, objects={**record.objects, name: ObjectDigest.of(metadata)}))
    with pytest.raises(StoreError, match=r"codecs is \['my_package.fixed16'\]"):
        Cache(config.cache_place).teacher("t").logits(0, 0)


@pytest.mark.slow
def test_a_packages_model_is_a_student_like_any_other(installed, run_tables, tmp_path):
    config = parse_config(run_tables(tmp_path / "run", student={"model": "mine:tiny"}))
    run_all(config, "ingest", "seeds", "teacher", "student")
    weights = safetensors.torch.load(config.student_place(config.student[0]).read("weights.safetensors"))
    assert weights["5.weight"].shape == (3, 8)


def test_models_and_libraries_that_are_not_there_are_named(installed):
    with pytest.raises(ModelError, match=r"model 'mine:large' cannot be built: there is only tiny"):
        build_model("mine:large", 3)
    with pytest.raises(
        ModelError, match=r"model 'yours:tiny': there is no library 'yours'; there are: torchvision, timm, mine"
    ):
        build_model("yours:tiny", 3)
