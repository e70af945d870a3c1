"""The shape of a cache on disk: names of its arrays and tasks, and how logits are cut into Zarr shards and chunks.

Pure arithmetic over counts; nothing here reads or writes.
"""

from dataclasses import dataclass

from stillroom.storage.ledger.record import LEDGER_NODE
from stillroom.storage.ledger.sealed import PARTS, SEALED_TASK

CHUNK_LIMIT = 16 * 2**20
"""Decoded bytes of one inner chunk at most, in float32; a larger view of a data shard is split by slots."""
SEEDS_LIMIT = 8 * 2**20
MOST_SLOTS, MOST_VIEWS, MOST_CLASSES, MOST_PIXELS = 2**24, 2**20, 2**20, 2**14
"""Far above any cache; a larger number in its metadata is damage, or malice."""


@dataclass(frozen=True)
class Layout:
    """Counts that fix the shapes.

    Attributes:
        sizes: number of samples in each data shard.
        views_per_block: views in one block, so in one task and one Zarr shard.
    """

    sizes: tuple[int, ...]
    views_per_block: int

    @property
    def shards(self) -> int:
        return len(self.sizes)

    @property
    def slots(self) -> int:
        """Slots of the largest data shard: the extent of every array's slot axis."""
        return max(self.sizes)

    def chunk_slots(self, classes: int) -> int:
        """Slots of one inner chunk of logits."""
        pieces = -(-self.slots * classes * 4 // CHUNK_LIMIT)
        return -(-self.slots // pieces)

    def shard_slots(self, classes: int) -> int:
        """Slots of one Zarr shard: all of them, rounded up to whole inner chunks."""
        chunk = self.chunk_slots(classes)
        return -(-self.slots // chunk) * chunk

    def seeds_chunk(self) -> tuple[int, int]:
        """Chunk of the seeds array: as many data shards as fit into a few megabytes."""
        return max(1, min(self.shards, SEEDS_LIMIT // (8 * self.slots))), self.slots


SEEDS = "seeds"
SEEDS_TASK = "seeds"
LOGITS = "logits"
DIGESTS = "digests"
CANARIES = "canaries"
EVALUATION = "evaluation"
PILOT = "pilot"
PLAIN = "plain"
TEACHERS = "teachers"


def teacher_folder(teacher: str) -> str:
    """Group of a teacher's arrays, and folder of its records in the ledger."""
    return f"{TEACHERS}/{teacher}"


def layouts_folder(teacher: str) -> str:
    return f"{teacher_folder(teacher)}/layout"


def layout_task(teacher: str, views: int) -> str:
    """Task that writes the metadata of a teacher's arrays for that many views."""
    return f"{layouts_folder(teacher)}/{views:06d}"


def block_task(teacher: str, shard: int, block: int) -> str:
    """Task that writes one data shard's block of views."""
    return f"{teacher_folder(teacher)}/blocks/{shard:06d}.{block:06d}"


def block_teacher(task: str) -> str | None:
    """The teacher of a block's task; None for any other task."""
    parts = task.split("/")
    return parts[1] if len(parts) == 4 and parts[0] == TEACHERS and parts[2] == "blocks" else None


def evaluation_task(teacher: str) -> str:
    """Task that writes a teacher's logits on the evaluation set."""
    return f"{teacher_folder(teacher)}/{EVALUATION}"


def pilot_task(teacher: str) -> str:
    """Task that asks a teacher about a few views first, and fits the transform to its answers."""
    return f"{teacher_folder(teacher)}/{PILOT}"


def plain_folder(teacher: str) -> str:
    """A teacher's logits of plain views, and folder of their records."""
    return f"{teacher_folder(teacher)}/{PLAIN}"


def plain_layout_task(teacher: str) -> str:
    """Task that writes the metadata of a teacher's logits of plain views."""
    return f"{plain_folder(teacher)}/layout"


def plain_task(teacher: str, shard: int) -> str:
    """Task that writes a teacher's logits of one data shard's plain views."""
    return f"{plain_folder(teacher)}/{shard:06d}"


def plain_shard(task: str) -> int | None:
    """The data shard of a task that writes logits of plain views; None for any other task."""
    parts = task.split("/")
    plain = len(parts) == 4 and parts[0] == TEACHERS and parts[2] == PLAIN and parts[3].isdecimal()
    return int(parts[3]) if plain else None


def canary_place(layout: Layout, canary: int) -> tuple[int, int]:
    """Data shard and view of a canary. They lie in the first block, so that growth never moves one."""
    return canary % layout.shards, (canary // layout.shards) % layout.views_per_block


def writing_tasks(layout: Layout, name: str) -> tuple[str, ...]:
    """Which tasks may have written an object of the cache; a trailing "/" stands for every task in that folder.

    Empty for a name that no task writes.
    """
    parts = name.split("/")
    if name == "zarr.json":
        return (SEEDS_TASK, SEALED_TASK)
    if name == LEDGER_NODE:
        return (SEEDS_TASK,)
    if name.startswith(f"{PARTS}/") and name.endswith(".jsonl"):
        return (SEALED_TASK,)
    if parts[0] != TEACHERS:
        return (SEEDS_TASK,) if parts[0] == SEEDS else ()
    if parts[1:] == ["zarr.json"]:
        return (SEEDS_TASK,)
    if len(parts) < 3:
        return ()
    teacher, rest = parts[1], parts[2:]
    if rest[0] == EVALUATION:
        return (evaluation_task(teacher),)
    if rest[0] == PILOT:
        return (pilot_task(teacher),)
    if rest == [PLAIN, "zarr.json"]:
        return (plain_layout_task(teacher),)
    if rest[-1] == "zarr.json":
        return (f"{layouts_folder(teacher)}/",)
    if rest[1:2] != ["c"] or not all(part.isdigit() for part in rest[2:]):
        return ()
    where = [int(part) for part in rest[2:]]
    if rest[0] in (LOGITS, DIGESTS):
        return (block_task(teacher, where[0], where[1]),)
    if rest[0] == CANARIES:
        return (block_task(teacher, canary_place(layout, where[0])[0], 0),)
    if rest[0] == PLAIN and len(where) == 3:
        return (plain_task(teacher, where[0]),)
    return ()


def written_by(layout: Layout, task: str) -> frozenset[str]:
    """What the record of a task must list: all that it writes but canaries and chunks of evaluation logits.

    Empty for a task that writes nothing here.
    """
    if task == SEEDS_TASK:
        chunks = range(-(-layout.shards // layout.seeds_chunk()[0]))
        return frozenset(
            {"zarr.json", f"{TEACHERS}/zarr.json", f"{SEEDS}/zarr.json", *(f"{SEEDS}/c/{chunk}/0" for chunk in chunks)}
        )
    parts = task.split("/")
    if parts[0] != TEACHERS or len(parts) < 3:
        return frozenset()
    folder = teacher_folder(parts[1])
    if parts[2] == EVALUATION:
        return frozenset({f"{folder}/{EVALUATION}/zarr.json"})
    if parts[2] == PILOT:
        return frozenset({f"{folder}/{PILOT}/{name}zarr.json" for name in ("", "logits/", "places/", "model/")})
    if task.startswith(f"{layouts_folder(parts[1])}/"):
        return frozenset(
            {f"{folder}/{name}zarr.json" for name in ("", *(f"{a}/" for a in (LOGITS, DIGESTS, CANARIES)))}
        )
    if task == plain_layout_task(parts[1]):
        return frozenset({f"{folder}/{PLAIN}/zarr.json"})
    if (number := plain_shard(task)) is not None:
        return frozenset({f"{folder}/{PLAIN}/c/{number}/0/0"})
    shard, _, block = parts[-1].partition(".")
    where = f"{int(shard)}/{int(block)}"
    return frozenset({f"{folder}/{LOGITS}/c/{where}/0/0", f"{folder}/{DIGESTS}/c/{where}/0"})


def claim_of_task(task: str) -> str:
    """The claim under which a task is done: its own name, but for layouts, which write the same objects."""
    folder, _, name = task.rpartition("/")
    return folder if name.isdecimal() and folder.startswith(f"{TEACHERS}/") and folder.endswith("/layout") else task


def claim_of(layout: Layout, name: str) -> str | None:
    """The claim under which an object of the cache is written; None for a name that no task writes.

    It is the name of the writing task, but for metadata, which tasks of several names write.
    """
    tasks = writing_tasks(layout, name)
    return tasks[0].rstrip("/") if tasks else None
