"""One flipped bit, or a file cut short: found by `verify`, and by the student's reader where it reads them."""

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.config.config import Config
from stillroom.pipeline.replay.shard_views import ShardViews, load_shard
from stillroom.pipeline.replay.targets import Targets
from stillroom.stages.run.places import RunLocation, holdings
from stillroom.stages.verify.objects import check_objects
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import StillroomError

from . import tinyrun
from .table import Row

FLIPS, CUTS, WHOLE = 1000, 200, 30


@dataclass(frozen=True)
class Harm:
    """What is done to a file.

    Attributes:
        path: its own.
        name: the object's, within its holding: what must be said.
        byte, bit: which bit is flipped; without a bit, everything from that byte on is cut off.
    """

    path: Path
    name: str
    byte: int
    bit: int | None

    def __call__(self, good: bytes) -> bytes:
        if self.bit is None:
            return good[: self.byte]
        data = bytearray(good)
        data[self.byte] ^= 1 << self.bit
        return bytes(data)

    @contextmanager
    def done(self) -> Iterator[None]:
        good = self.path.read_bytes()
        self.path.write_bytes(self(good))
        try:
            yield
        finally:
            self.path.write_bytes(good)


def harms(files: Mapping[Path, str], count: int, rng: random.Random, *, cut: bool) -> Iterator[Harm]:
    """Bytes drawn uniformly over all files; every second time over the files first, or tars would get nearly all."""
    paths = list(files)
    sizes = [path.stat().st_size for path in paths]
    filled = [place for place, size in enumerate(sizes) if size]
    for number in range(count):
        place = rng.choices(range(len(paths)), sizes)[0] if number % 2 else rng.choice(filled)
        # Every fifth cut leaves nothing.
        byte = 0 if cut and number % 5 == 0 else rng.randrange(sizes[place])
        yield Harm(paths[place], files[paths[place]], byte, None if cut else rng.randrange(8))


@dataclass
class Reader:
    """A student's reading of one view of each data shard."""

    config: Config
    good: dict[tuple[int, int], ShardViews] = field(default_factory=dict)

    def read(self, views: Sequence[int]) -> list[ShardViews]:
        """As `ReplayLoader` reads them."""
        cache, data = Cache(self.config.cache_place), Dataset(self.config.data_place)
        recipe = Recipe.from_data(dict(cache.info.recipe))
        (name,) = cache.teachers
        teacher = cache.teacher(name)
        found = [
            load_shard(
                cache,
                data,
                recipe,
                shard,
                view,
                [Targets(view, teacher.logits(shard, view))],
                {name: teacher.digests(shard, view)},
            )
            for shard, view in enumerate(views)
        ]
        assert teacher.missing(teacher.views) == []
        return found

    def learn(self) -> None:
        for view in range(4):
            for item in self.read([view] * 3):
                self.good[item.shard, view] = item

    def outcome(self, harm: Harm, views: Sequence[int]) -> str:
        """What came of reading a damaged run: "found", "not read" (all is as it was), or what is wrong."""
        try:
            found = self.read(views)
        except StillroomError as error:
            return "found" if harm.name in str(error) else f"not named: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        same = all(_same(item, self.good[item.shard, view]) for item, view in zip(found, views, strict=True))
        return "not read" if same else "returned other data"


def _same(one: ShardViews, other: ShardViews) -> bool:
    arrays = [
        *((mine.logits, theirs.logits) for mine, theirs in zip(one.targets, other.targets, strict=True)),
        *((one.digests[name], other.digests[name]) for name in one.digests),
        (one.views.window, other.views.window),
        (one.mix.partner, other.mix.partner),
        (one.mix.weight, other.mix.weight),
        (one.index.label, other.index.label),
    ]
    images = all(np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True))
    return images and one.index.key == other.index.key and all(np.array_equal(a, b) for a, b in arrays)


def measure(count: int | None = None, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """`count` flips (1,000 by default), a fifth as many cuts, and thirty of both through the whole of `verify`.

    Args:
        count: flips.
        seed: of what is hit.
        folder: where the run is, or is made.
    """
    with _somewhere(folder) as where:
        config = tinyrun.config(where)
        if not (where / "run" / "report.html").exists():
            tinyrun.run(config, *tinyrun.ALL)
        return [*_rows(config, where / "run", FLIPS if count is None else count, random.Random(seed))]


@contextmanager
def _somewhere(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _rows(config: Config, folder: Path, flips: int, rng: random.Random) -> Iterator[Row]:
    cuts, whole = max(1, flips * CUTS // FLIPS), max(2, flips * WHOLE // FLIPS)
    held = holdings(config)
    vouched = {
        path: path.relative_to(str(_holding_of(path, held).place)).as_posix()
        for path in tinyrun.files(folder)
        if "tensorboard" not in path.parts
    }
    mine = {path: name for path, name in vouched.items() if _holding_of(path, held).name in ("train", "eval", "cache")}
    theirs = {path: name for path, name in vouched.items() if path not in mine}
    for what, count, cut in (("bit flips", flips, False), ("truncations", cuts, True)):
        for whose, paths, share in (("data and cache", mine, count), ("students and report", theirs, count // 4 or 1)):
            seen = [_found_by_check(harm, held) for harm in harms(paths, share, rng, cut=cut)]
            yield _row(f"{what} in {whose}", "found by verify's object check, file named", seen)
        yield _by_reader(config, what, list(harms(mine, count, rng, cut=cut)), rng)
    both = [*harms(vouched, whole // 2, rng, cut=False), *harms(vouched, whole - whole // 2, rng, cut=True)]
    yield _row("bit flips and truncations", "found by the whole of verify, file named", _found_by_verify(config, both))


def _row(test: str, figure: str, missed: Sequence[str]) -> Row:
    wrong = [text for text in missed if text]
    return Row(test, figure, len(missed) - len(wrong), len(missed), "; ".join(wrong[:3]))


def _found_by_check(harm: Harm, held: Sequence[RunLocation]) -> str:
    """Empty, or what was missed."""
    holding = _holding_of(harm.path, held)
    with harm.done():
        failures = check_objects(holding, 0, 1).failures
    named = any(failure.where.endswith(f": {harm.name}") for failure in failures)
    return "" if named else f"{harm}: {[failure.where for failure in failures]}"


def _holding_of(path: Path, held: Sequence[RunLocation]) -> RunLocation:
    inside = [item for item in held if path.is_relative_to(str(item.place))]
    return max(inside, key=lambda item: len(str(item.place)))


def _found_by_verify(config: Config, both: Sequence[Harm]) -> list[str]:
    missed = []
    for harm in both:
        with harm.done():
            try:
                said = [f"{failure['where']} {failure['message']}" for failure in tinyrun.verify(config)["failures"]]
            except StillroomError as error:
                said = [str(error)]
        missed.append("" if any(harm.name in text for text in said) else f"{harm}: {said}")
    return missed


def _by_reader(config: Config, what: str, hits: Sequence[Harm], rng: random.Random) -> Row:
    reader = Reader(config)
    reader.learn()
    outcomes = []
    for harm in hits:
        views = [rng.randrange(4) for _ in range(3)]
        with harm.done():
            outcome = reader.outcome(harm, views)
        outcomes.append(outcome if outcome in ("found", "not read") else f"{harm}: {outcome}")
    found, unread = outcomes.count("found"), outcomes.count("not read")
    wrong = [text for text in outcomes if text not in ("found", "not read")]
    notes = "; ".join([f"{unread} in bytes that it does not read: what it returned was the same", *wrong[:3]])
    return Row(f"{what} in data and cache", "found by the reader, file named", found, len(hits) - unread, notes)
