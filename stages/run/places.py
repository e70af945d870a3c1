"""Where a run keeps things: its places, and which of the objects there are stillroom's own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from stillroom.pipeline.config.config import Config
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import SEEDS, SEEDS_TASK, Layout, claim_of, written_by
from stillroom.storage.dataset.dataset import DESCRIPTION, REJECTED, WHOLE_TASK, index_name, ingest_task, shard_name
from stillroom.storage.errors import StoreError, UnreachableError
from stillroom.storage.ledger.ledger import FOLDER
from stillroom.storage.ledger.sealed import PARTS, SEALED_TASK
from stillroom.storage.objects.base import Place, temporary_of

from .artifacts import CHECKPOINT, METRICS
from .artifacts import REPORT as REPORT
from .artifacts import REPORT_TASK as REPORT_TASK
from .artifacts import RESULT as RESULT
from .artifacts import STUDENT_TASK as STUDENT_TASK
from .artifacts import WEIGHTS as WEIGHTS


@dataclass(frozen=True)
class RunLocation:
    """A place of a run.

    Attributes:
        name: "train", "eval", "cache", "students/NAME" or "run".
        place: where it is.
        claim: from an object's name to the claim of the task that writes it; None for what is not stillroom's.
        required: from a task's name to what its record must list.
        working: names of objects that need no record: a task in progress goes on from them, or people read them.
    """

    name: str
    place: Place
    claim: Callable[[str], str | None]
    required: Callable[[str], frozenset[str]]
    working: frozenset[str] = frozenset()

    def names(self) -> Iterator[str]:
        """Objects that lie here, other places below this one apart."""
        for name in self.place.list():
            if self.name != "run" or "/" not in name or name.startswith(f"{FOLDER}/"):
                yield name

    def unlisted(self, names: Iterator[str], listed: frozenset[str]) -> Iterator[str]:
        """Those of our objects that no record lists."""
        for name in names:
            ours = self.claim(name) is not None and temporary_of(name) is None
            if ours and name not in listed and name not in self.working:
                yield name


def parts(config: Config) -> tuple[str, ...]:
    """Parts of the data that the config names."""
    return ("train", "eval") if config.data.evaluates else ("train",)


def place_of(config: Config, part: str) -> Place:
    """Where a part is ingested to."""
    return config.data_place if part == "train" else config.eval_place


def student_places(config: Config) -> dict[str, Place]:
    """Where students may be: all that lie in the run's folder, and the config's own, wherever they are."""
    found = {name: config.run_place.at(f"students/{name}") for name in config.run_place.folders("students")}
    return found | {student.name: config.student_place(student) for student in config.student}


def holdings(config: Config) -> list[RunLocation]:
    """Every place of a run: data, cache, students that have begun, and the run's own."""
    found = [
        RunLocation(part, place_of(config, part), _of_data, _by_ingest, frozenset({REJECTED})) for part in parts(config)
    ]
    layout = _layout(config.cache_place)
    found.append(RunLocation("cache", config.cache_place, _of_cache(layout), _in_cache(layout)))
    for name, place in student_places(config).items():
        if next(place.list(), None) is not None:
            done = place.size(f"{FOLDER}/{STUDENT_TASK}.json") is not None
            working = frozenset() if done else frozenset({CHECKPOINT, METRICS})
            found.append(RunLocation(f"students/{name}", place, _of_student, _BY_STUDENT, working))
    found.append(RunLocation("run", config.run_place, lambda name: REPORT_TASK if name == REPORT else None, _BY_REPORT))
    return found


def _of_data(name: str) -> str | None:
    if name in (DESCRIPTION, REJECTED):
        return WHOLE_TASK
    number = name.partition("/")[2].partition(".")[0]
    if number.isdecimal() and name in (shard_name(int(number)), index_name(int(number))):
        return ingest_task(int(number))
    return None


def _by_ingest(task: str) -> frozenset[str]:
    if task == WHOLE_TASK:
        return frozenset({DESCRIPTION, REJECTED})
    number = task.rpartition("/")[2]
    return frozenset({index_name(int(number))} if number.isdecimal() else ())


def _layout(place: Place) -> Layout | None:
    """None where the seeds are not written, or damaged."""
    try:
        return Cache(place).layout
    except UnreachableError:
        raise
    except StoreError:
        return None


def _of_cache(layout: Layout | None) -> Callable[[str], str | None]:
    """Without its seeds, a cache's shape is not known, and nothing else in it is taken for ours."""
    if layout is None:
        return _without_seeds
    return partial(claim_of, layout)


def _without_seeds(name: str) -> str | None:
    if name.startswith(f"{PARTS}/") and name.endswith(".jsonl"):
        return SEALED_TASK
    return SEEDS_TASK if name.partition("/")[0] in ("zarr.json", SEEDS) else None


def _in_cache(layout: Layout | None) -> Callable[[str], frozenset[str]]:
    return partial(written_by, layout) if layout is not None else lambda _: frozenset()


def _exactly(task: str, *names: str) -> Callable[[str], frozenset[str]]:
    return lambda found: frozenset(names if found == task else ())


_BY_STUDENT = _exactly(STUDENT_TASK, WEIGHTS, RESULT, METRICS)
_BY_REPORT = _exactly(REPORT_TASK, REPORT)


def _of_student(name: str) -> str | None:
    return STUDENT_TASK if name in (WEIGHTS, RESULT, METRICS, CHECKPOINT) else None
