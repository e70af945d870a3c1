"""The report: one page that needs nothing else, says what is there, and survives what is not."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.report.charts import Line, curves, histogram, thinned
from stillroom.stages.report.contact_sheet import contact_sheet
from stillroom.stages.report.page import as_toml, in_bytes
from stillroom.stages.run.executor import InProcess, Summary, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import NAMES, stage_named
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import canary_place
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.ledger.ledger import Ledger

SAMPLES = 12
CANARIES = 3


def data_of(folder: Path, **changes: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """A run's configuration; each change replaces keys of a table, or a list of tables."""
    student = {"model": "timm:test_resnet", "size": 32, "epochs": 1, "batch_size": 4}
    tables: dict[str, Any] = {
        "run": {"name": "tiny-run", "dir": str(folder / "run")},
        "data": {"train": str(folder / "train"), "eval": str(folder / "eval"), "samples_per_shard": 6},
        "views": {"count": 2, "views_per_block": 1},
        "render": {"backend": "dali-cpu", "threads": 1},
        "cache": {"canaries": CANARIES},
        "teacher": [
            {"name": "master", "model": "timm:test_resnet", "weights": str(folder / "w.safetensors"), "size": 32}
        ],
        "student": [
            {"name": "replays", "target": "cache", "temperature": 2.0, **student},
            {"name": "reads-labels", "target": "labels", **student},
        ],
    }
    for name, change in changes.items():
        tables[name] = change if isinstance(change, list) else {**tables[name], **change}
    return tables


def config_of(folder: Path, **changes: dict[str, Any] | list[dict[str, Any]]) -> Config:
    return parse_config(data_of(folder, **changes))


def do(config: Config, *names: str) -> Summary:
    """Run stages in order; the last one's summary."""
    for name in names:
        summary = execute(stage_named(name), config, InProcess(), NoProgress())
        stage = stage_named(name)
        if stage.conclude and summary.ran:
            assert stage.conclude(config, summary.results)["ok"]
    return summary


def page_of(config: Config) -> str:
    return config.run_place.read("report.html").decode()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of JPEGs, for training and for evaluation, and weights for a teacher."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, count in (("train", SAMPLES // 2), ("eval", 2)):
        for place, name in enumerate(("bright & red", "dark")):
            for number in range(count):
                pixels = random.integers(0, 90, (40, 48 + number, 3), dtype=np.uint8)
                pixels[..., 0] += np.uint8(100 * (1 - place))
                path = folder / part / name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path, quality=95)
    torch.manual_seed(0)
    safetensors.torch.save_file(build_model("timm:test_resnet", 2).state_dict(), folder / "w.safetensors")
    return folder


@pytest.fixture(scope="module")
def finished(images: Path) -> Config:
    """A whole run."""
    config = config_of(images)
    do(config, *NAMES)
    return config


class Links(HTMLParser):
    """Collects what a page would load, and the text that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Links:
    links = Links()
    links.feed(page)
    links.close()
    return links


def test_the_page_loads_nothing_from_elsewhere(finished: Config) -> None:
    page = page_of(finished)
    found = parsed(page)
    assert found.links
    assert all(link.startswith(("data:", "#")) for link in found.links)
    assert not found.tags & {"script", "link", "iframe", "object"}
    assert "http:" not in page
    assert "https:" not in page
    assert not re.findall(r"@import|url\((?!#)", page)


def test_every_reference_inside_the_page_has_its_target_once(finished: Config) -> None:
    page = page_of(finished)
    ids = parsed(page).ids
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert references
    assert references <= set(ids)


def test_every_canary_is_identical_and_pictured(finished: Config) -> None:
    page = page_of(finished)
    assert page.count('<span class="state good">identical</span>') == CANARIES
    assert "bytes differ" not in page
    stored = re.findall(r'src="([^"]+)" alt="the view in the cache"', page)
    again = re.findall(r'src="([^"]+)" alt="the view made again"', page)
    assert len(stored) == CANARIES
    assert stored == again
    assert len(set(stored)) == CANARIES


def test_a_canary_that_is_not_replayed_says_how_many_bytes_differ(
    finished: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(finished.cache_place)
    teacher = cache.teacher("master")
    canaries = teacher.canaries()
    changed = canaries[1].pixels.copy()
    changed[3, 5] ^= 1
    canaries[1] = replace(canaries[1], pixels=changed)
    monkeypatch.setattr(type(teacher), "canaries", lambda _: canaries)
    sheet = contact_sheet(finished, cache, Dataset(finished.data_place), "master")
    assert [item.differing for item in sheet.pictured] == [0, 3, 0]
    assert sheet.pictured[1].state.startswith("3 ")


def test_the_sheet_shows_canaries_in_their_order_with_partners_and_answers(finished: Config) -> None:
    cache = Cache(finished.cache_place)
    data = Dataset(finished.data_place)
    sheet = contact_sheet(finished, cache, data, "master")
    assert [(item.shard, item.view) for item in sheet.pictured] == [
        canary_place(cache.layout, number) for number in range(CANARIES)
    ]
    for item in sheet.pictured:
        logits = cache.teacher("master").logits(item.shard, item.view)[item.slot]
        assert item.mixture is not None
        assert item.answers[0][0] == data.classes[int(np.argmax(logits))]
        assert sum(probability for _, probability in item.answers) == pytest.approx(1)


def test_the_page_names_teacher_students_classes_and_figures(finished: Config) -> None:
    page = page_of(finished)
    text = "".join(parsed(page).text)
    for name in ("tiny-run", "master", "replays", "reads-labels", "timm:test_resnet", "bright & red"):
        assert name in text
    record = Ledger(finished.student_place(finished.student[0])).get("student")
    assert record is not None
    assert f"{record.facts['top1'] * 100:.1f}\u202f%" in text
    assert "views, classified again" in text
    assert "Up to date" in text


def test_bytes_per_view_are_those_of_the_records(finished: Config) -> None:
    ledger = Ledger(finished.cache_place)
    written = sum(item.size for record in ledger.records("teachers/master/blocks") for item in record.objects.values())
    assert f"{in_bytes(written / (SAMPLES * 2))} a view" in page_of(finished)


def test_a_page_that_is_up_to_date_is_not_made_again(finished: Config) -> None:
    assert do(finished, "report").ran == 0


def test_the_same_facts_give_the_same_bytes(finished: Config) -> None:
    before = page_of(finished)
    assert execute(stage_named("report"), finished, InProcess(), NoProgress(), again=True).ran == 1
    assert page_of(finished) == before


def test_the_page_is_made_again_when_a_record_changes(finished: Config) -> None:
    ledger = Ledger(finished.cache_place)
    record = ledger.get("verified")
    assert record is not None
    try:
        ledger.drop("verified")
        assert do(finished, "report").ran == 1
        assert "Not verified yet" in page_of(finished)
    finally:
        ledger.put(record)
    assert do(finished, "report").ran == 1
    assert "Not verified yet" not in page_of(finished)


def test_the_settings_on_the_page_make_the_same_run(finished: Config) -> None:
    assert parse_config(tomllib.loads(as_toml(finished))) == finished


@pytest.fixture
def elsewhere(images: Path, tmp_path: Path) -> Iterator[Path]:
    """The same images for another run."""
    for name in ("train", "eval", "w.safetensors"):
        (tmp_path / name).symlink_to(images / name)
    return tmp_path


def test_a_run_without_teacher_and_evaluation_set_has_a_page(elsewhere: Path) -> None:
    students = [item for item in data_of(elsewhere)["student"] if item["target"] == "labels"]
    config = config_of(elsewhere, teacher=[], student=students)
    config = parse_config({**data_of(elsewhere, teacher=[], student=students), "data": {"train": config.data.train}})
    do(config, "ingest", "seeds", "student", "report")
    page = page_of(config)
    assert "No teacher" in page
    assert "No evaluation set" in page
    assert "reads-labels" in page
    assert "Training loss" in page


@pytest.mark.slow
def test_a_page_grows_with_its_run(elsewhere: Path) -> None:
    config = config_of(elsewhere, cache={"canaries": 0})
    do(config, "ingest", "report")
    assert "no teacher’s answers are cached" in page_of(config)
    do(config, "seeds", "teacher", "report")
    page = page_of(config)
    assert "The same views, made again" not in page
    assert "identical" not in page
    assert "None yet" in page
    assert "Not verified yet" in page
    place = config.student_place(config.student[0])
    lines = [
        {"event": "train", "step": 1, "loss": 0.7},
        {"event": "eval", "step": 2, "top1": 0.25, "top5": 1.0, "kl": 0.0},
    ]
    place.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    config.run_place.write("students/forgotten/metrics.jsonl", (json.dumps(lines[0]) + "\n").encode())
    do(config, "report")
    page = page_of(config)
    assert "running, epoch 1 of 1" in page
    assert "forgotten" in page
    assert "25.0\u202f%" in page


def test_charts_have_colours_by_variable_and_no_metadata() -> None:
    rising = Line(0, np.arange(1.0, 4.0), np.array([0.1, 0.5, 0.9]))
    chart = curves("rises", [rising], "a title", "share", 0.95)
    assert chart.startswith('<svg viewBox="')
    assert "var(--line-0)" in chart
    assert not re.search(r"#[0-9a-f]{6}\b|<metadata|<style|font-family|http", chart)
    assert chart == curves("rises", [rising], "a title", "share", 0.95)
    assert "var(--accent)" in histogram("area", np.linspace(0, 1, 50), 0, 1, "share")


@pytest.mark.parametrize("scale", ["share", "log"])
def test_a_chart_of_one_point_or_of_zeros_is_drawn(scale: Any) -> None:
    assert "<svg" in curves("one", [Line(9, np.array([1.0]), np.array([0.0]))], "one", scale)


def test_a_long_line_keeps_its_last_point_and_its_mean() -> None:
    x = np.arange(5000.0)
    few_x, few_y = thinned(x, x * 2)
    assert len(few_x) <= 240
    assert few_x[-1] == 4999
    np.testing.assert_allclose(few_y, few_x * 2)
