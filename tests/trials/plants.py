"""Kinds of damage to plant in a finished tiny run, and what must be said and done about each."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr

from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest
from stillroom.storage.objects.local import LocalPlace

from .wrong_shards import half_of_logits

T, BLOCK = "cache/teachers/t", "teachers/t/blocks/000001.000000"
LOGITS, DIGESTS, CANARY = f"{T}/logits/c/1/0/0/0", f"{T}/digests/c/1/0/0", f"{T}/canaries/c/1/0/0/0"
LAYOUT, EVALUATION = "teachers/t/layout/000004", "teachers/t/evaluation"
PLAIN, PLAIN_LAYOUT = "teachers/t/plain/000001", "teachers/t/plain/layout"
STUDENT = "students/student"


@dataclass(frozen=True)
class Plant:
    """One kind of damage.

    Attributes:
        name: of it.
        harm: does it to the run in a folder.
        said: must be in a failure's place or message.
        redo: holding and task that a repair must drop; None where nothing can be, or nothing need be, dropped.
        again: stage and task that the next run must do.
    """

    name: str
    harm: Callable[[Path], None]
    said: str
    redo: tuple[str, str] | None
    again: tuple[str, str]


def damaged() -> Iterator[Plant]:
    """Every kind of object, changed by itself; every kind of record, changed and gone."""
    block = ("cache", BLOCK), ("teacher", BLOCK)
    layout = ("cache", LAYOUT), ("teacher", LAYOUT)
    seeds = ("cache", "seeds"), ("seeds", "seeds")
    evaluation = ("cache", EVALUATION), ("teacher", EVALUATION)
    plain_layout = ("cache", PLAIN_LAYOUT), ("teacher", PLAIN_LAYOUT)
    student = (STUDENT, "student"), ("student", "student")
    objects = {
        "data/shards/000001.tar": (("train", "ingest/000001"), ("ingest", "train/ingest/000001")),
        "data/index/000001.parquet": (("train", "ingest/000001"), ("ingest", "train/ingest/000001")),
        "data/dataset.json": (("train", "dataset"), ("ingest", "train/dataset")),
        "data/rejected.jsonl": (("train", "dataset"), ("ingest", "train/dataset")),
        "eval/shards/000000.tar": (("eval", "ingest/000000"), ("ingest", "eval/ingest/000000")),
        "eval/dataset.json": (("eval", "dataset"), ("ingest", "eval/dataset")),
        "cache/zarr.json": seeds,
        "cache/teachers/zarr.json": seeds,
        "cache/seeds/zarr.json": seeds,
        "cache/seeds/c/0/0": seeds,
        f"{T}/zarr.json": layout,
        f"{T}/logits/zarr.json": layout,
        f"{T}/canaries/zarr.json": layout,
        LOGITS: block,
        DIGESTS: block,
        CANARY: block,
        f"{T}/evaluation/c/0/0": evaluation,
        f"{T}/evaluation/zarr.json": evaluation,
        f"{T}/plain/c/1/0/0": (("cache", PLAIN), ("teacher", PLAIN)),
        f"{T}/plain/zarr.json": plain_layout,
        f"{STUDENT}/weights.safetensors": student,
        f"{STUDENT}/result.json": student,
        f"{STUDENT}/metrics.jsonl": student,
        "report.html": (("run", "report"), ("report", "report")),
    }
    for name, (redo, again) in objects.items():
        yield Plant(f"{name} changed", lambda run, name=name: _append(run / name), _inside(name), redo, again)
    seen: set[str] = set()
    for redo, again in (*objects.values(), (("cache", "verified"), ("verify", ""))):
        name = _record(*redo)
        if name in seen:
            continue
        seen.add(name)
        yield Plant(f"{name} changed", lambda run, name=name: _append(run / name), _inside(name), redo, again)
        # A student or a report without a record is one that is not made yet; so is a verification.
        if redo[0] in ("train", "eval", "cache") and redo[1] not in ("verified", "dataset"):
            yield Plant(f"{name} gone", lambda run, name=name: (run / name).unlink(), _gone(redo), None, again)


def consistent() -> Iterator[Plant]:
    """Damage whose record was made to agree with it, so that no digest tells."""
    block = ("cache", BLOCK), ("teacher", BLOCK)
    seeds = ("cache", "seeds"), ("seeds", "seeds")
    shard = ("train", "ingest/000001"), ("ingest", "train/ingest/000001")
    where = "data shard 1, view 0"
    logits = f"{T}/logits"

    def swapped(array: Any) -> None:
        array[1, 0, 3:5] = array[1, 0, 3:5][::-1]

    def nan(array: Any) -> None:
        array[1, 0, 3, 2] = np.nan

    def raised(array: Any) -> None:
        array[1, 0, 3] += 1

    def in_array(path: str, edit: Callable[[Any], None], task: str = BLOCK) -> Callable[[Path], None]:
        def harm(run: Path) -> None:
            edit(zarr.open_array(str(run / path), mode="r+"))
            rerecord(run / "cache", task)

        return harm

    yield Plant("logits of two samples swapped", in_array(logits, swapped), where, *block)
    yield Plant("a logit that is not a number", in_array(logits, nan), where, *block)
    yield Plant("a shard half filled", _half_filled, "data shard 1, view 1", *block)
    yield Plant("a digest altered", in_array(f"{T}/digests", raised), where, *block)
    yield Plant("a canary altered", in_array(f"{T}/canaries", _brighter), where, *block)
    yield Plant("a canary and its digest altered", _canary_and_digest, where, *block)
    yield Plant("bytes of a digest chunk altered", _in_bytes(DIGESTS, BLOCK), where, *block)
    yield Plant("bytes of the seeds altered", _in_bytes("cache/seeds/c/0/0", "seeds"), "data shard 1", *seeds)
    yield Plant("a seed altered", in_array("cache/seeds", _other_seed, "seeds"), "data shard 1, slot 3", *seeds)
    yield Plant("the root seed altered", _in_json("root_seed", "9"), "root_seed", *seeds)
    yield Plant("the recipe altered", _in_json("recipe", {"flip": True}), "recipe", *seeds)
    yield Plant(
        "evaluation logits swapped",
        in_array(f"{T}/evaluation", _swap_rows, EVALUATION),
        "evaluation set, data shard 0, slot 2",
        ("cache", EVALUATION),
        ("teacher", EVALUATION),
    )
    yield Plant(
        "plain logits swapped",
        in_array(f"{T}/plain", lambda array: array.__setitem__((1, slice(2, 4)), array[1, 2:4][::-1]), PLAIN),
        "plain views, data shard 1, slot 2",
        ("cache", PLAIN),
        ("teacher", PLAIN),
    )
    yield Plant("a label altered in an index", _other_label, "index/000001.parquet", *shard)
    yield Plant("an image altered in a tar", _other_image, "shards/000001.tar", *shard)
    whole = ("train", "dataset"), ("ingest", "train/dataset")
    yield Plant("classes swapped in dataset.json", _other_classes, "dataset.json", *whole)
    for folder, task, name, again in (
        ("cache", BLOCK, LOGITS, block[1]),
        ("cache", LAYOUT, f"{T}/digests/zarr.json", ("teacher", LAYOUT)),
        ("cache", PLAIN, f"{T}/plain/c/1/0/0", ("teacher", PLAIN)),
        ("cache", PLAIN_LAYOUT, f"{T}/plain/zarr.json", ("teacher", PLAIN_LAYOUT)),
        ("cache", "seeds", "cache/seeds/c/0/0", seeds[1]),
        ("data", "ingest/000001", "data/index/000001.parquet", shard[1]),
        (STUDENT, "student", f"{STUDENT}/weights.safetensors", ("student", "student")),
        (".", "report", "report.html", ("report", "report")),
    ):
        holding = {"data": "train", ".": "run"}.get(folder, folder)
        harm = _unlist(folder, task, _inside(name))
        yield Plant(f"{name} not listed", harm, _inside(name), (holding, task), again)


def rerecord(folder: Path, task: str) -> None:
    """A record that vouches for what is there now."""
    place = LocalPlace(folder)
    record = Ledger(place).get(task)
    assert record is not None
    Ledger(place).put(replace(record, objects={name: ObjectDigest.of(place.read(name)) for name in record.objects}))


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def _inside(name: str) -> str:
    """A file's name in its holding."""
    parts = name.split("/")
    return "/".join(parts[{"students": 2, "data": 1, "eval": 1, "cache": 1}.get(parts[0], 0) :])


def _record(holding: str, task: str) -> str:
    folder = {"train": "data/", "run": ""}.get(holding, f"{holding}/")
    return f"{folder}ledger/{task}.json"


def _gone(redo: tuple[str, str]) -> str:
    """Without the seeds' record there is no cache to speak of."""
    return redo[1] if redo[1] != "seeds" else "run `stillroom seeds`"


def _half_filled(run: Path) -> None:
    (run / LOGITS).write_bytes(half_of_logits(run))
    rerecord(run / "cache", BLOCK)


def _brighter(array: Any) -> None:
    array[1, 4, 4] ^= 1


def _canary_and_digest(run: Path) -> None:
    """So that the two agree: only the view itself tells."""
    canaries, digests = (zarr.open_array(str(run / T / name), mode="r+") for name in ("canaries", "digests"))
    slot = json.loads((run / T / "zarr.json").read_text())["attributes"]["stillroom"]["canaries"][1]
    _brighter(canaries)
    digests[1, 0, slot] = xxhash.xxh3_64_intdigest(np.asarray(canaries[1]).tobytes()) & 0xFFFF
    rerecord(run / "cache", BLOCK)


def _in_bytes(name: str, task: str) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[len(data) // 2] ^= 4
        (run / name).write_bytes(data)
        rerecord(run / "cache", task)

    return harm


def _other_seed(array: Any) -> None:
    array[1, 3] ^= np.uint64(1)


def _swap_rows(array: Any) -> None:
    array[2:4] = array[2:4][::-1]


def _in_json(field: str, value: Any) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        path = run / "cache/zarr.json"
        found = json.loads(path.read_text())
        stated = found["attributes"]["stillroom"]
        stated[field] = {**stated[field], **value} if isinstance(value, dict) else value
        path.write_text(json.dumps(found))
        rerecord(run / "cache", "seeds")

    return harm


def _other_label(run: Path) -> None:
    path = run / "data/index/000001.parquet"
    index = ShardIndex.from_parquet(path.read_bytes(), "")
    label = index.label.copy()
    label[3] = (label[3] + 1) % 10
    path.write_bytes(replace(index, label=label).to_parquet())
    rerecord(run / "data", "ingest/000001")


def _other_image(run: Path) -> None:
    path, index = run / "data/shards/000001.tar", run / "data/index/000001.parquet"
    found = ShardIndex.from_parquet(index.read_bytes(), "")
    data = bytearray(path.read_bytes())
    data[int(found.offset[3]) + int(found.size[3]) - 40] ^= 1
    path.write_bytes(data)
    rerecord(run / "data", "ingest/000001")


def _other_classes(run: Path) -> None:
    path = run / "data/dataset.json"
    found = json.loads(path.read_text())
    found["classes"][:2] = found["classes"][1::-1]
    path.write_text(json.dumps(found))
    rerecord(run / "data", "dataset")


def _unlist(folder: str, task: str, name: str) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        ledger = Ledger(LocalPlace(run / folder))
        record = ledger.get(task)
        assert record is not None
        ledger.put(replace(record, objects={key: item for key, item in record.objects.items() if key != name}))

    return harm
