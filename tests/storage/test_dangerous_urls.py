"""URLs that run something are refused wherever a URL is taken, before anything is made of them."""

import pytest

import stillroom
from stillroom.pipeline.config.config import parse_config
from stillroom.storage.errors import ConfigError, StoreError
from stillroom.storage.objects.urls import danger, open_parent, open_place

LIST = "simplecache::s3://bucket/x"
"""As a source, this is a list: something called simplecache, and a URL."""
DANGEROUS = [
    "pipe:touch ran",
    "pipe:touch ran/x",
    "PIPE:touch ran",
    " pipe:touch ran",
    "a::pipe:touch ran",
    LIST,
    "simplecache::pipe://x",
    "reference://bucket/x",
    "dask://bucket/x",
    "git://path/x",
    "jlab://x/y",
]
PLAIN = [
    "runs/a",
    "/runs/a::b",
    "runs/pipe/x",
    "runs/pipe:x",
    "s3://bucket/pipe",
    "file:///x",
    "memory://x",
    "hf://x/y",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", DANGEROUS)
def test_a_place_that_runs_something_is_not_opened(url):
    for opens in (open_place, open_parent, stillroom.open):
        with pytest.raises(StoreError, match="never done") as refused:
            opens(f"{url}/x" if opens is open_parent else url)
        assert url in str(refused.value)


@pytest.mark.parametrize("url", PLAIN)
def test_a_plain_url_is_no_danger(url):
    assert danger(url) == ""


SETTINGS = ["run.dir", "data.dir", "data.eval_dir", "cache.dir", "teacher.weights", "student.dir", "student.weights"]
SOURCES = ["data.train", "data.eval"]


@pytest.mark.parametrize(
    ("setting", "url"),
    [(setting, url) for setting in SETTINGS + SOURCES for url in DANGEROUS if setting in SETTINGS or url != LIST],
)
def test_a_setting_that_runs_something_is_refused_by_its_name(setting, url):
    tables = {
        "run": {"dir": "runs/a"},
        "data": {"train": "photos"},
        "teacher": {"name": "t", "model": "timm:test_resnet", "weights": "w.safetensors"},
        "student": {},
        "cache": {},
    }
    table, _, key = setting.partition(".")
    tables[table][key] = url
    with pytest.raises(ConfigError, match="never done") as refused:
        parse_config(tables)
    assert repr(url) in str(refused.value)
    assert key in str(refused.value)


def test_templates_in_a_setting_are_letters():
    config = parse_config({"run": {"dir": "runs/${HOME}/$(touch ran)/{{ 1 + 1 }}/%(x)s"}, "data": {"train": "`id`"}})
    assert config.run_place.url == "runs/${HOME}/$(touch ran)/{{ 1 + 1 }}/%(x)s"
    assert config.data.train == "`id`"
