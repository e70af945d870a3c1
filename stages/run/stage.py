"""What a stage is: three functions over a config. An executor runs the tasks of any stage; no stage knows which."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stillroom.pipeline.config.config import Config
from stillroom.storage.objects.base import Place

Advance = Callable[[int], None]
"""Called by a running task with how many units it has just finished."""


Results = Mapping[str, Mapping[str, Any]]
"""What tasks returned, by their name."""


@dataclass(frozen=True)
class Task:
    """One piece of work, all or nothing.

    Attributes:
        name: unique in its stage.
        wave: all tasks of a wave may run side by side; a wave starts when the one before is done.
        units: how much work it is, in the stage's unit.
    """

    name: str
    wave: int = 0
    units: int = 1


@dataclass(frozen=True)
class RecordLocation:
    """Where a task's record goes.

    Attributes:
        place: whose ledger it is in.
        record: the task's name there.
        claim: what a writer claims before it does the task: tasks that write the same objects share it.
    """

    place: Place
    record: str
    claim: str


@dataclass(frozen=True)
class Stage:
    """A named stage.

    Attributes:
        name: the command's.
        unit: what its work is counted in, in the plural.
        tasks: which tasks there are, in order. Reads what earlier stages wrote.
        done: opens what is there, once, and returns whether a task's results are among it; refuses results that were
            made from other inputs.
        run: do one task; returns figures for people.
        conclude: joins what the tasks returned, by name, where that is more than figures; says whether all is well
            under "ok". Its last argument: whether these are all tasks, or one job's share of them.
        state: digest of what the tasks look at, for stages that conclude: results of another state are not joined.
        homes: where a task's records go, for stages whose tasks several writers must not do at once; a task that writes
            several is done by whoever has claimed all of them.
        resumable: whether a task that stops between two calls of `advance` has kept what it did.
        notes: what people should read before it begins, a line each.
        ranks: what several ranks, as torchrun starts them, do with it. "alone": the first one does it; "apart": each
            takes tasks that no other has taken; "together": all of them do each task.
        shared: the wave that array jobs share out. Waves before it are done by whichever job comes first, those after
            it by whichever finds all before them done.
        details: what people should read once it has run, a line each: of its tasks' results, by name, and of what was
            concluded, if anything was.
        asks_teacher: whether its tasks ask a teacher: what a process has built for that is kept for them.
        prepare: gets what must be there before its tasks are known. Whoever only asks for tasks does without.
        look_ahead: before the first stage of a run, and for `--dry-run`: refuses what this one will miss and no stage
            before it makes. Its last argument: whether it may fetch what can be had already.
    """

    name: str
    unit: str
    tasks: Callable[[Config], Sequence[Task]]
    done: Callable[[Config], Callable[[Task], bool]]
    run: Callable[[Config, Task, Advance], Mapping[str, Any]]
    conclude: Callable[[Config, Mapping[str, Mapping[str, Any]], bool], Mapping[str, Any]] | None = None
    state: Callable[[Config], str] | None = None
    homes: Callable[[Config, Task], Sequence[RecordLocation]] | None = None
    resumable: bool = False
    notes: Callable[[Config], Sequence[str]] | None = None
    ranks: Literal["alone", "apart", "together"] = "alone"
    shared: int = 0
    asks_teacher: bool = False
    details: Callable[[Results, Mapping[str, Any] | None], Sequence[str]] | None = None
    prepare: Callable[[Config], None] | None = None
    look_ahead: Callable[[Config, bool], None] | None = None
