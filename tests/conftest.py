"""Fixtures for every floor: a folder of real JPEGs, a tiny teacher, tiny runs, and a disk that is really full."""

import io
import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import trials.realdata
from hypothesis import settings
from PIL import Image

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.pipeline.models.factory import build_model

# The same examples each time: a red run can be repeated, and a slow machine is not a failure.
settings.register_profile("stillroom", deadline=None, derandomize=True, database=None)
settings.load_profile("stillroom")

CLASSES = ("apple", "pear", "quince")
PER_CLASS = 8
MODEL = "timm:test_resnet"
SIZE = 32

Tables = dict[str, Any]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In parallel, whole files are dealt out in this order: those with most slow tests first, so none is left alone."""
    if hasattr(config, "workerinput"):
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that STILLROOM_TEST_DATA names. Tests that ask for it are marked `real_data`: they are extra."""
    folder = trials.realdata.real_data()
    if folder is None:
        pytest.skip(f"{trials.realdata.VARIABLE} names no folder of real data")
    assert folder.is_dir(), f"{trials.realdata.VARIABLE} is {folder}, which is no folder"
    return folder


def encoded_photo(number: int) -> bytes:
    """A small JPEG, smooth as photos are, and of a size of its own."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
    sink = io.BytesIO()
    size = 36 + 11 * (number % 5), 40 + 7 * (number % 6)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(sink, "JPEG", quality=90)
    return sink.getvalue()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three class folders with eight JPEGs each. Read it; to change something, copy it."""
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(PER_CLASS):
            (root / name / f"{number:02d}.jpg").write_bytes(encoded_photo(label * PER_CLASS + number))
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of those three classes, untrained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    safetensors.torch.save_file(build_model(MODEL, len(CLASSES)).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def run_tables(photos: Path, weights: Path) -> Callable[..., Tables]:
    """Plain data of a tiny run: `run_tables(folder, views={"seed": 1})` changes a key, None removes it."""

    def make(folder: Path, **changes: Any) -> Tables:
        tables: Tables = {
            "run": {"name": "tiny", "dir": str(folder)},
            "data": {"train": str(photos), "samples_per_shard": 8},
            "views": {"count": 4, "views_per_block": 2, "seed": 7},
            "render": {"threads": 1, "backend": "dali-cpu"},
            "teacher": {"name": "t", "model": MODEL, "weights": str(weights), "size": SIZE, "batch_size": 16},
            "cache": {"canaries": 2},
            "student": {"model": MODEL, "size": SIZE, "epochs": 1, "batch_size": 8},
        }
        for name, table in changes.items():
            if table is None:
                del tables[name]
            elif isinstance(table, dict):
                tables[name] = {
                    key: value for key, value in (tables.get(name, {}) | table).items() if value is not None
                }
            else:
                tables[name] = table
        return tables

    return make


@pytest.fixture(scope="session")
def run_config(run_tables: Callable[..., Tables]) -> Callable[..., Config]:
    """The same, checked: `run_config(folder, views={"seed": 1})`."""

    def make(folder: Path, **changes: Any) -> Config:
        return parse_config(run_tables(folder, **changes))

    return make


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A real S3 server on the loopback, that can be told to fail: `trials.flakys3.FlakyS3`."""
    from trials.flakys3 import FlakyS3

    server = FlakyS3()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, with its credentials in the environment, and clients that know of no other."""
    import fsspec

    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    return s3_server


@pytest.fixture
def bucket(s3: Any) -> str:
    """URL of an empty bucket."""
    url: str = s3.bucket(f"bucket-{uuid.uuid4().hex}")
    return url


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, mounted for this test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system can be mounted only by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def fill_disk() -> Callable[[Path, int], Path]:
    """Writes a file that leaves so many free bytes on its file system; delete it to make room."""

    def fill(folder: Path, leave: int) -> Path:
        ballast = folder / "ballast"
        state = os.statvfs(folder)
        ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - leave)))
        return ballast

    return fill
