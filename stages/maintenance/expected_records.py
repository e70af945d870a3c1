"""Which records a finished run has, from its config and its data's description alone.

The stages say the same of their tasks, but bring torch and DALI along, and read every index or weight that they need;
whoever only counts does without. A test holds the two together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.artifacts import REPORT_TASK, STUDENT_TASK, VERIFIED_TASK
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache.layout import (
    SEEDS_TASK,
    block_task,
    evaluation_task,
    layout_task,
    pilot_task,
    plain_layout_task,
    plain_task,
)
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.dataset.dataset import WHOLE_TASK, Dataset, ingest_task
from stillroom.storage.errors import MissingObjectError
from stillroom.storage.objects.base import Place


@dataclass(frozen=True)
class Expected:
    """One place's share of a stage.

    Attributes:
        stage: its name.
        unit: what its work is counted in.
        place: whose ledger.
        folder: of its tasks in that ledger; "" for the top.
        units: of each task, by the name of its record.
    """

    stage: str
    unit: str
    place: Place
    folder: str
    units: dict[str, int]


def expected(config: Config, stage: str) -> Iterator[Expected]:
    """What a stage leaves.

    Raises:
        MissingObjectError: nothing is ingested yet.
    """
    if stage == "ingest":
        yield from _ingest(config)
    elif stage == "seeds":
        units = {SEEDS_TASK: Dataset(config.data_place).samples}
        yield Expected(stage, "samples", config.cache_place, "", units)
    elif stage == "teacher":
        for section in config.teacher:
            yield Expected(
                stage, "views", config.cache_place, f"teachers/{section.name}", _teacher(config, section.name)
            )
    elif stage == "verify":
        yield Expected(stage, "caches", config.cache_place, "", {VERIFIED_TASK: 1})
    elif stage == "student":
        for student in config.student:
            yield Expected(stage, "students", config.student_place(student), "", {STUDENT_TASK: 1})
    else:
        assert stage == "report"
        yield Expected(stage, "pages", config.run_place, "", {REPORT_TASK: 1})


def _ingest(config: Config) -> Iterator[Expected]:
    places = {"train": config.data_place, "eval": config.eval_place} if config.data.evaluates else {}
    for part, place in (places or {"train": config.data_place}).items():
        try:
            said = Dataset(place).description
        except MissingObjectError:
            # Only the source knows, which the stage reads, whatever it takes to import that.
            tasks = stage_named("ingest").tasks(config)
            named = {
                task.name.removeprefix(f"{part}/"): task.units for task in tasks if task.name.startswith(f"{part}/")
            }
            yield Expected("ingest", "images", place, "", named)
            continue
        units = {ingest_task(number): size for number, size in zip(said.numbers, said.sizes, strict=True)}
        yield Expected("ingest", "images", place, "", {**units, WHOLE_TASK: 0})


def _teacher(config: Config, name: str) -> dict[str, int]:
    sizes: Sequence[int] = Dataset(config.data_place).sizes
    block = config.views.views_per_block
    found = {pilot_task(name): 0} if kind_of(config.cache.codec).fitted else {}
    found[layout_task(name, config.views.count)] = 0
    for number in range(config.views.count // block):
        found |= {block_task(name, shard, number): size * block for shard, size in enumerate(sizes)}
    if config.data.evaluates:
        found[evaluation_task(name)] = Dataset(config.eval_place).samples
    if config.cache.plain:
        found[plain_layout_task(name)] = 0
        found |= {plain_task(name, shard): size for shard, size in enumerate(sizes)}
    return found
