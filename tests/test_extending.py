"""What `docs/extending.md` shows works as it stands there, from a package that is not ours."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from stillroom.pipeline.augment import registry
from stillroom.pipeline.augment.operation import FOREIGN
from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.config.config import parse_config
from stillroom.stages.cli.main import main
from stillroom.stages.report.page import as_toml
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, StoreError
from stillroom.storage.ledger.ledger import Ledger

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
        ((group, points),) = tomllib.loads(block)["project"]["entry-points"].items()
        ((name, value),) = points.items()
        (package / f"{value.partition(':')[0].rpartition('.')[2]}.py").write_text(code)
        groups.append(f"[{group}]\n{name} = {value}\n")
    about = tmp_path / "site" / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("\n".join(groups))
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


def test_a_packages_operation_is_drawn_applied_and_replayed(installed, run_tables, tmp_path):
    config = settings_of(blocks("toml")[1], run_tables, tmp_path / "run")
    plain = parse_config(run_tables(tmp_path / "plain"))
    for each in (config, plain):
        run_all(each, "ingest", "seeds", "teacher", "verify", "student")
    blurred, sharp = Cache(config.cache_place), Cache(plain.cache_place)
    assert blurred.info.recipe["augment"] == [{"op": "gaussian_blur", "version": 1, "low": 0.1, "high": 1.0}]
    pictures = [torch.from_numpy(cache.teacher("t").canary(0).pixels).float() for cache in (blurred, sharp)]
    rough = [float((picture[1:] - picture[:-1]).abs().mean()) for picture in pictures]
    assert rough[0] < 0.95 * rough[1], "it was not blurred"


def test_a_cache_of_an_operation_that_is_gone_is_refused_by_name(installed, run_tables, tmp_path, monkeypatch):
    config = settings_of(blocks("toml")[1], run_tables, tmp_path / "run")
    run_all(config, "ingest", "seeds")
    with monkeypatch.context() as gone:
        gone.setattr(registry, "registered", dict)
        refused(config)


def refused(config):
    with pytest.raises(StoreError, match=r"no augmentation 'gaussian_blur'.*install the package"):
        Recipe.from_data(Cache(config.cache_place).info.recipe)


def test_its_number_comes_from_its_name_and_is_its_own(installed):
    kinds = registry.registered()
    assert kinds["gaussian_blur"].number >= FOREIGN
    assert len({kind.number for kind in kinds.values()}) == len(kinds) == 4


def test_wrong_ranges_and_names_are_refused_with_the_nearest_name(installed, run_tables, tmp_path):
    for wrong, said in (
        ({"op": "gaussian_blurr"}, r"no augmentation 'gaussian_blurr'; did you mean 'gaussian_blur'"),
        ({"op": "gaussian_blur", "high": -1.0}, r"augmentation 'gaussian_blur': high: .*greater than 0"),
        ({"op": "gaussian_blur", "sigma": 1.0}, r"augmentation 'gaussian_blur': sigma: "),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_config(run_tables(tmp_path, views={"augment": [wrong]}))
    twice = [{"op": "gaussian_blur"}, {"op": "gaussian_blur"}]
    with pytest.raises(ConfigError, match=r"'gaussian_blur' stands twice"):
        parse_config(run_tables(tmp_path, views={"augment": twice}))


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
