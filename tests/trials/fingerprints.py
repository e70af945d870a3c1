"""A change of what a half-filled cache was made from: refused by name, and nothing is written."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.stages.ingest.sources.open import open_source
from stillroom.storage.errors import DataError, FingerprintError
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.local import LocalPlace

from . import tinyrun
from .table import Row

GONE = ("teachers/t/blocks/000001.000001", "teachers/t/blocks/000002.000001")
"""Blocks that are still to be done."""


@dataclass(frozen=True)
class Change:
    """A setting of the config that differs from the cache's.

    Attributes:
        name: of the change.
        tables: what changes in the config.
        field: the field that must be named.
        values: both values, as they must be said; None where they are digests.
    """

    name: str
    tables: Mapping[str, Mapping[str, Any]]
    field: str
    values: tuple[object, object] | None = None


def changes(folder: Path) -> Iterator[Change]:
    """All of them; `folder` holds other weights and other images."""
    yield Change("seed", {"views": {"seed": 9}}, "views.seed", ("0", "9"))
    yield Change("recipe: area", {"views": {"area": [0.5, 1.0]}}, "views.area", ([0.25, 1.0], [0.5, 1.0]))
    yield Change("recipe: flip", {"views": {"flip": True}}, "views.flip", (False, True))
    yield Change("recipe: mixup", {"views": {"mixup": False}}, "views.mixup", (True, False))
    yield Change("recipe: hue", {"views": {"hue": 0.25}}, "views.hue", (0.0, 0.25))
    yield Change("views_per_block", {"views": {"views_per_block": 1}}, "views.views_per_block", (2, 1))
    yield Change("samples_per_shard", {"data": {"samples_per_shard": 50}}, "data.samples_per_shard", (64, 50))
    yield Change("holdout", {"data": {"holdout": 0.3}}, "data.holdout", (0.2, 0.3))
    yield Change("codec", {"cache": {"codec": "float32"}}, "codec", ("float16", "float32"))
    yield Change("weights", {"teacher": {"weights": str(folder / "other.safetensors")}}, "weights")
    yield Change("size", {"teacher": {"size": 24}}, "size", (32, 24))
    yield Change("precision", {"teacher": {"precision": "bfloat16"}}, "precision", ("float32", "bfloat16"))
    yield Change("mean", {"teacher": {"mean": [0.1, 0.2, 0.3]}}, "mean")
    yield Change("std", {"teacher": {"std": [0.1, 0.2, 0.3]}}, "std")
    yield Change("model", {"teacher": {"model": "timm:resnet10t"}}, "model", (tinyrun.MODEL, "timm:resnet10t"))
    for what in ("an image replaced", "a label moved"):
        made = folder / what.replace(" ", "-")
        dirs = {"dir": str(made / "data"), "eval_dir": str(made / "eval"), "train": str(made / "images")}
        yield Change(f"data: {what}", {"data": dirs, "cache": {"dir": str(folder / "run/cache")}}, "data")


def measure(count: int | None = None, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """Every change, or the first `count`, under a cache of which two blocks of six are not done."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        where = Path(made)
        tinyrun.finished(where, tinyrun.CACHE)
        tinyrun.weights(where / "other.safetensors", seed=8)
        _other_images(where)
        for task in GONE:
            Ledger(LocalPlace(where / "run/cache")).drop(task)
        found = list(changes(where))[:count]
        wrong = [text for change in found if (text := _refused(where, change))]
        unfinished = [_unfinished(where / what.replace(" ", "-")) for what in ("an image replaced", "a label moved")]
    return [
        Row(
            "another setting under a half-filled cache",
            "refused by name, nothing written",
            len(found) - len(wrong),
            len(found),
            "; ".join(wrong),
        ),
        Row(
            "files changed under a half-finished ingest",
            "refused by name, nothing written",
            unfinished.count(""),
            len(unfinished),
            "; ".join(text for text in unfinished if text),
        ),
    ]


def _other_images(folder: Path) -> None:
    for what in ("an image replaced", "a label moved"):
        made = folder / what.replace(" ", "-")
        shutil.copytree(folder / "images", made / "images")
        first, second = (sorted((made / f"images/{label}").iterdir())[0] for label in "01")
        if what == "a label moved":
            first.rename(second.parent / first.name)
        else:
            first.write_bytes(second.read_bytes())


def _refused(folder: Path, change: Change) -> str:
    """What is wrong about the refusal; empty where nothing is."""
    config = tinyrun.config(folder, change.tables)
    if change.field == "data":
        tinyrun.run(config, "ingest")
    before = tinyrun.tree(folder)
    try:
        tinyrun.run(config, *tinyrun.CACHE)
    except FingerprintError as error:
        said = str(error)
        named = error.field == change.field and f"{error.stored!r}" in said and f"{error.wanted!r}" in said
        if not named or (change.values and (error.stored, error.wanted) != change.values):
            return f"{change.name}: {said}"
    else:
        return f"{change.name} was not refused"
    return "" if tinyrun.tree(folder) == before else f"{change.name}: something was written"


def _unfinished(folder: Path) -> str:
    """The same change of files while they are ingested: the first half is of the old ones."""
    shutil.rmtree(folder / "images")
    shutil.copytree(folder.parent / "images", folder / "images")
    changed = {"run": {"dir": str(folder / "half")}, "data": {"train": str(folder / "images")}}
    config = tinyrun.config(folder.parent, changed)
    tinyrun.run(config, "ingest")
    for task in ("dataset", "ingest/000001"):
        Ledger(config.data_place).drop(task)
    first, second = (sorted((folder / f"images/{label}").iterdir())[0] for label in "01")
    if folder.name.startswith("a-label"):
        first.rename(second.parent / first.name)
    else:
        first.write_bytes(second.read_bytes())
    return _changed_files_refused(folder, config)


def _changed_files_refused(folder: Path, config: Config) -> str:
    open_source.cache_clear()  # another process would look again
    before = tinyrun.tree(folder)
    try:
        tinyrun.run(config, "ingest")
    except DataError as error:
        named = "data.train" in str(error) and "changed" in str(error)
        return "" if named and tinyrun.tree(folder) == before else f"{folder.name}: {error}"
    return f"{folder.name}: was not refused"
