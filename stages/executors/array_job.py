"""The executor of one job of an array: it does its share of a stage, and never waits for a job that is not running.

Of the wave that a stage shares out, a job does the tasks whose place in the stage's list is its index modulo the number
of jobs. Earlier waves are done by whoever comes first, under claims; all wait for them, and any job that runs can do
them. Later ones, which join what was shared out, are done by whoever finds all before them done. So one job at a time,
in any order, comes to the same end as all at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.executor import Executor, Outcome
from stillroom.stages.run.stage import Advance, Stage, Task
from stillroom.stages.run.task_results import Kept, forget

from .array_index import Job


class ArrayJob(Executor):
    """One job's share, on another executor.

    Args:
        job: which.
        inner: who does its tasks.
    """

    def __init__(self, job: Job, inner: Executor) -> None:
        self._job = job
        self._inner = inner
        self._kept: Kept | None = None

    def share(self, stage: Stage, config: Config, tasks: Sequence[Task], left: Sequence[bool]) -> Sequence[bool]:
        if stage.conclude is not None and any(left):
            self._kept = Kept(stage, config, tasks)
        kept = self._kept
        mine = [
            open_ and in_share(self._job, stage, place, task) and (kept is None or kept.get(task) is None)
            for place, (task, open_) in enumerate(zip(tasks, left, strict=True))
        ]
        return self._inner.share(stage, config, tasks, mine)

    def run(
        self, stage: Stage, config: Config, tasks: Sequence[Task], advance: Advance, *, again: bool = False
    ) -> Iterator[tuple[Task, Outcome]]:
        if tasks[0].wave > stage.shared and not _done_before(stage, config, tasks[0].wave):
            return
        for task, outcome in self._inner.run(stage, config, tasks, advance, again=again):
            if self._kept is not None and outcome is not None:
                self._kept.put(task, outcome)
            yield task, outcome

    def conclude(
        self, stage: Stage, config: Config, tasks: Sequence[Task], results: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        """Of all tasks, once all are there; else of this job's share, so that what is bad in it is said at once."""
        if stage.conclude is None:
            return None
        found = {**(self._kept.results() if self._kept is not None else {}), **results}
        whole = all(task.name in found for task in tasks)
        names = [task.name for place, task in enumerate(tasks) if whole or in_share(self._job, stage, place, task)]
        concluded = stage.conclude(config, {name: found[name] for name in names if name in found}, whole)
        if whole and concluded["ok"]:
            forget(stage, config)  # the stage's own record stands for them; bad ones stay, for a job that runs again
        return concluded

    def close(self) -> None:
        self._inner.close()


def in_share(job: Job, stage: Stage, place: int, task: Task) -> bool:
    """Whether a job sees to a task, at that place of the stage's list; more than one do where a wave is not shared."""
    return task.wave != stage.shared or job.has(place)


def _done_before(stage: Stage, config: Config, wave: int) -> bool:
    """Whether all tasks of earlier waves are done, by whichever job. The last one to finish sees that they are."""
    check = stage.done(config)
    return all(check(task) for task in stage.tasks(config) if task.wave < wave)
