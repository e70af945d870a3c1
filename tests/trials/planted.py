"""The checker's own test: damage that `verify` must see; and its repair, after which all is as it was."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stillroom.pipeline.config.config import Config
from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.verify.repair import repair
from stillroom.storage.errors import StillroomError

from . import tinyrun
from .plants import Plant, consistent, damaged
from .table import Row


def measure(count: int | None = None, seed: int = 0, folder: Path | None = None) -> list[Row]:
    """Every kind of damage, or every n-th so that `count` are left: seen, mended by the tasks it hit, whole again.

    Args:
        count: kinds.
        seed: of nothing here.
        folder: where the run is, or is made.
    """
    with _run(folder) as (config, where):
        restored = tinyrun.Restored(where)
        return [
            _trial(config, restored, what, _some(plants, count))
            for what, plants in (("damage", list(damaged())), ("damage with a record that agrees", list(consistent())))
        ]


def _some(plants: Sequence[Plant], count: int | None) -> Sequence[Plant]:
    return plants[:: max(1, len(plants) // count)][:count] if count else plants


@contextmanager
def _run(folder: Path | None) -> Iterator[tuple[Config, Path]]:
    with tempfile.TemporaryDirectory() as made:
        where = folder or Path(made)
        config = tinyrun.config(where)
        if not (where / "run" / "report.html").exists():
            tinyrun.run(config, *tinyrun.ALL)
        yield config, where / "run"


def _trial(config: Config, restored: tinyrun.Restored, what: str, plants: Iterable[Plant]) -> Row:
    good = tinyrun.content(restored.folder)
    wrong, total = [], 0
    for plant in plants:
        total += 1
        try:
            problem = fault(config, restored.folder, plant, good)
        except StillroomError as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            restored.restore()
        if problem:
            wrong.append(f"{plant.name}: {problem}")
    return Row(
        f"planted {what}",
        "seen by verify; repair drops that task, the next run does it alone, all is as it was",
        total - len(wrong),
        total,
        "; ".join(wrong),
    )


def fault(config: Config, run: Path, plant: Plant, good: dict[str, str]) -> str:
    """What is wrong about how a plant is seen and mended; empty where nothing is."""
    plant.harm(run)
    outcome = tinyrun.verify(config)
    if not any(plant.said in f"{failure['where']} {failure['message']}" for failure in outcome["failures"]):
        return f"not seen: {outcome['failures']}"
    wanted = {plant.redo} if plant.redo else set()
    if set(outcome["redo"]) != wanted:
        return f"would drop {outcome['redo']}, not {sorted(wanted)}"
    repair(config, outcome["redo"])
    list(collect(config))
    # A report says when all was verified, so that it is made again in any case.
    stages = (*tinyrun.CACHE, "student", *(["report"] if plant.again[0] == "report" else []))
    summaries = tinyrun.run(config, *stages)
    again = {(stage, task) for stage, summary in summaries.items() for task in summary.results}
    wanted_again = {plant.again} if plant.again[0] != "verify" else set()
    if again != wanted_again:
        return f"did {sorted(again)} again, not {sorted(wanted_again)}"
    after = tinyrun.content(run)
    if after != good:
        return f"differs afterwards: {sorted(name for name in after | good if after.get(name) != good.get(name))}"
    failures = tinyrun.verify(config)["failures"]
    return f"still wrong afterwards: {failures}" if failures else ""
