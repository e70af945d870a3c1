"""Shards that are whole files and yet wrong: missing, empty, swapped, duplicated, half-filled, foreign."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from stillroom.pipeline.config.config import Config
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.dataset.webdataset import pack
from stillroom.storage.errors import StillroomError
from stillroom.storage.objects.local import LocalPlace

from . import plaincache, tinyrun
from .bitflips import Reader
from .table import Row

LOGITS, TAR, INDEX = "cache/teachers/t/logits/c/{}/0/0/0", "data/shards/00000{}.tar", "data/index/00000{}.parquet"
BLOCK_RECORD, INGEST_RECORD = "cache/ledger/teachers/t/blocks/00000{}.000000.json", "data/ledger/ingest/00000{}.json"


@dataclass(frozen=True)
class Wrong:
    """One way to be wrong.

    Attributes:
        kind: of the six.
        harm: does it to the run in a folder.
        names: one of these must be said.
    """

    kind: str
    harm: Callable[[Path], None]
    names: tuple[str, ...]


def measure(count: int | None = None, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """All kinds, for shards of logits, tars and indexes; foreign ones with and without their records too.

    Args:
        count: of nothing here; there are six kinds.
        seed: likewise.
        folder: where the runs are made.
    """
    with tempfile.TemporaryDirectory(dir=folder) as made:
        return list(_rows(Path(made)))


def _rows(folder: Path) -> Iterator[Row]:
    config = tinyrun.finished(folder, (*tinyrun.CACHE, "verify"))
    run, foreign = folder / "run", _foreign_runs(folder)
    for what, path, half in (
        ("shards of logits", LOGITS, half_of_logits),
        ("tars", TAR, half_of_tar),
        ("indexes", INDEX, half_of_index),
    ):
        other = foreign["other data"] if path is not LOGITS else foreign["another root seed"]
        yield from _judged(what, config, run, _six(path, half, other))
    cases = list(_foreign(foreign))
    yield from _judged("shards of other caches and data sets", config, run, cases)


def _six(path: str, half: Callable[[Path], bytes], foreign: Path) -> Iterator[Wrong]:
    first, second = path.format(0), path.format(1)
    names = tuple(name.partition("/")[2] for name in (first, second))

    def swapped(run: Path) -> None:
        one, other = (run / first).read_bytes(), (run / second).read_bytes()
        (run / first).write_bytes(other)
        (run / second).write_bytes(one)

    yield Wrong("missing", lambda run: (run / second).unlink(), names)
    yield Wrong("empty", lambda run: _write(run / second, b""), names)
    yield Wrong("swapped", swapped, names)
    yield Wrong("duplicated", lambda run: _write(run / second, (run / first).read_bytes()), names)
    yield Wrong("half-filled", lambda run: _write(run / second, half(run)), names)
    yield Wrong("foreign", lambda run: _write(run / second, (foreign / second).read_bytes()), names)


def _foreign(runs: Mapping[str, Path]) -> Iterator[Wrong]:
    """By whose they are, alone and with the record that lists them."""
    for whose, other in runs.items():
        path, record = (TAR, INGEST_RECORD) if whose == "other data" else (LOGITS, BLOCK_RECORD)
        groups = {"alone": [path], "with its record": [path, record]}
        if path is TAR:
            groups = {"alone": [TAR, INDEX], "with its record": [TAR, INDEX, INGEST_RECORD]}
        else:
            digests = path.replace("logits", "digests").removesuffix("/0")
            canary = "cache/teachers/t/canaries/c/{}/0/0/0"
            groups["with all that its record lists"] = [path, digests, canary, record]
        for how, members in groups.items():
            names = [member.format(1) for member in members]

            def harm(run: Path, names: list[str] = names, other: Path = other) -> None:
                for name in names:
                    shutil.copy(other / name, run / name)

            said = (*names, record.format(1))
            yield Wrong(f"of {whose}, {how}", harm, tuple(name.partition("/")[2] for name in said))


def _foreign_runs(folder: Path) -> dict[str, Path]:
    """Runs whose shards are as good as ours, but for one thing."""
    weights = tinyrun.weights(folder / "other.safetensors", seed=8)
    changes = {
        "another root seed": {"views": {"seed": 5}},
        "another teacher": {"teacher": {"weights": str(weights)}},
        "other data": {"data": {"holdout": 0.25}},
    }
    found = {}
    for whose, change in changes.items():
        found[whose] = folder / whose.replace(" ", "-")
        tinyrun.finished(folder, tinyrun.CACHE, {**change, "run": {"dir": str(found[whose])}})
    return found


def _judged(what: str, config: Config, run: Path, cases: Iterator[Wrong] | list[Wrong]) -> Iterator[Row]:
    restored, reader = tinyrun.Restored(run), Reader(config)
    missed: dict[str, list[str]] = {"verify": [], "the reader": []}
    total = 0
    for wrong in cases:
        total += 1
        wrong.harm(run)
        for who, says in (("the reader", _read_all(reader)), ("verify", _verified(config))):
            if not any(name in says for name in wrong.names):
                missed[who].append(f"{wrong.kind}: {says or 'nothing'}")
        restored.restore()
    for who, wrongs in missed.items():
        yield Row(f"wrong {what}", f"found by {who}, named", total - len(wrongs), total, "; ".join(wrongs))


def _read_all(reader: Reader) -> str:
    try:
        for view in range(4):
            reader.read([view] * 3)
    except StillroomError as error:
        return str(error)
    return ""


def _verified(config: Config) -> str:
    try:
        failures = tinyrun.verify(config)["failures"]
    except StillroomError as error:
        return str(error)
    return " ".join(f"{failure['where']} {failure['message']}" for failure in failures)


def half_of_logits(run: Path) -> bytes:
    """Data shard 1's first block with the second of its views never written, by Zarr itself."""
    cache = Cache(LocalPlace(run / "cache"))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "logits"
        folder.mkdir()
        shutil.copy(run / "cache/teachers/t/logits/zarr.json", folder)
        array = zarr.open_array(str(folder), mode="r+")
        array[1, 0, : cache.layout.sizes[1]] = cache.teacher("t").logits(1, 0)
        return (folder / "c/1/0/0/0").read_bytes()


def half_of_tar(run: Path) -> bytes:
    """Data shard 1 with the first half of its samples."""
    data = Dataset(LocalPlace(run / "data"))
    index = data.index(1)
    images = data.images(1, index)
    labels = [{"jpg": image.tobytes(), "cls": b"%d" % label} for image, label in zip(images, index.label, strict=True)]
    return pack(list(zip(index.key, labels, strict=True))[: len(index) // 2])[:]


def half_of_index(run: Path) -> bytes:
    """The index of data shard 1 with the first half of its rows."""
    index = ShardIndex.from_parquet((run / INDEX.format(1)).read_bytes(), "")
    columns = {name: getattr(index, name)[: len(index) // 2] for name in index.__dataclass_fields__}
    return ShardIndex(**columns).to_parquet()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def legitimate(folder: Path, codecs: tuple[str, ...] = ("float16", "float32", "int8", "topk:3", "sqrtp")) -> Row:
    """Logits that are all zero, or all equal, which Zarr takes for chunks that need not be stored."""
    survived, notes = 0, []
    for number, codec in enumerate(codecs):
        for value in (0.0, 3.25):
            place = plaincache.whole(folder / f"{number}-{value}", codec)
            its = plaincache.writer(place, codec=codec)
            for shard, size in enumerate(plaincache.SIZES):
                logits = np.full((plaincache.BLOCK, size, plaincache.CLASSES), value, np.float32)
                plaincache.write_block(its, shard, 1, logits=logits)
            teacher = Cache(place).teacher("t")
            views = [teacher.logits(shard, view) for shard in range(3) for view in (2, 3)]
            # Codecs of probabilities keep logits up to a constant.
            exact = all(np.array_equal(view, np.full_like(view, value)) for view in views)
            equal = all(np.isfinite(view).all() and np.ptp(view) < 1e-3 for view in views)
            kept = exact or (codec.partition(":")[0] in ("topk", "sqrtp") and equal)
            survived += kept
            notes += [] if kept else [f"{codec}, {value}: {views[0][0]}"]
    return Row("logits that are all zero, or all equal", "survive", survived, 2 * len(codecs), "; ".join(notes))


def all_zero_run(folder: Path) -> Row:
    """A whole run with a teacher that answers zero to everything."""
    weights = tinyrun.weights(folder / "zero.safetensors", gain=0.0)
    survived, notes = 0, []
    codecs = ("float16", "float32", "int8")
    for codec in codecs:
        changes = {
            "run": {"dir": str(folder / codec)},
            "teacher": {"weights": str(weights)},
            "cache": {"codec": codec, "canaries": 4},
        }
        config = tinyrun.finished(folder, tinyrun.CACHE, changes)
        views = [item.logits for view in range(4) for item in Reader(config).read([view] * 3)]
        kept = all(logits is not None and not logits.any() for logits in views) and tinyrun.verify(config)["ok"]
        survived += kept
        notes += [] if kept else [codec]
    return Row("a teacher whose logits are all zero", "survives, and verifies", survived, len(codecs), "; ".join(notes))
