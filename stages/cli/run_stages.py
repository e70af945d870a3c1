"""Stages in order, each on the executor that suits it: here, on Dask, on torchrun's ranks; whole, or a job's share."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillroom.pipeline.config.config import Config
from stillroom.stages.executors.array_index import Job
from stillroom.stages.executors.array_job import ArrayJob, in_share
from stillroom.stages.executors.registry import PROCESS, Request, executor_named
from stillroom.stages.run.executor import Executor, Summary, execute
from stillroom.stages.run.progress import NoProgress, Progress, make_progress
from stillroom.stages.run.registry import stage_named
from stillroom.stages.run.shutdown import StopRequest
from stillroom.stages.run.stage import Stage
from stillroom.stages.verify.repair import repair
from stillroom.storage.errors import ConfigError, MissingObjectError

from .summary_text import details, sentence

if TYPE_CHECKING:
    from stillroom.pipeline.device.distributed import Ranks


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how.

    Attributes:
        names: of the stages, in order.
        executor: "process", "dask:WHERE", or one that a package brings; see `executors.registry`.
        workers: how many it starts; None: as many as suit.
        again: do tasks that are done, too.
        as_json: print what was concluded, for machines.
        mend: drop the records of what was found to be bad.
        dry_run: print the tasks that are left, and write nothing.
        job: which job of an array this is, if any.
    """

    names: Sequence[str]
    executor: str = PROCESS
    workers: int | None = None
    again: bool = False
    as_json: bool = False
    mend: bool = False
    dry_run: bool = False
    job: Job | None = None

    @property
    def shared(self) -> Job | None:
        """The job, where there are others."""
        return self.job if self.job is not None and self.job.count > 1 else None


def run_stages(config: Config, plan: Plan) -> int:
    """Run stages, and say what came of each.

    Returns:
        0; 1 where something was found to be bad, and the stages after it were not run.

    Raises:
        ConfigError: an executor and torchrun are to share out the work, or jobs what takes one; or there is no such
            executor.
    """
    _refuse_what_takes_one(plan)
    stages = [stage_named(name) for name in plan.names]
    if plan.dry_run:
        for stage in stages:
            _print_tasks(stage, config, plan)
        _look_ahead(stages, config, fetch=False)
        return 0
    _look_ahead(stages, config, fetch=True)
    with _met(plan) as ranks, StopRequest().listening() as stop:
        quiet = ranks is not None and not ranks.first
        with NoProgress() if quiet else make_progress() as progress:
            for stage in stages:
                bad = 0
                if ranks is None or ranks.first or stage.ranks != "alone":
                    with closing(_executor(plan, stage, ranks, stop, progress)) as executor:
                        bad = _run(stage, config, plan, executor, progress, quiet=quiet)
                if ranks is not None:
                    (bad,) = map(int, ranks.sum(bad))  # nobody begins the next stage before all are here
                if bad:
                    return 1
    return 0


def _look_ahead(stages: Sequence[Stage], config: Config, *, fetch: bool) -> None:
    """Refuse now what a stage would refuse only when its turn comes."""
    for stage in stages:
        if stage.look_ahead is not None:
            stage.look_ahead(config, fetch)


@contextmanager
def _met(plan: Plan) -> "Iterator[Ranks | None]":
    """The ranks, once they have met; None where torchrun started none."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    if plan.executor != PROCESS:
        raise ConfigError(f"torchrun and executor {plan.executor} both share out the work; use one of them")
    from stillroom.pipeline.device.distributed import Ranks  # brings torch along

    with Ranks.of_environment().joined() as ranks:
        yield ranks


def _refuse_what_takes_one(plan: Plan) -> None:
    if plan.shared is None:
        return
    if len(plan.names) > 1:
        raise ConfigError(
            f"{plan.shared} ({plan.shared.said_by}) cannot run all stages, since each needs the one before whole; "
            "start an array for each stage, one after the other, or say --job 0/1 to do all of it in this one"
        )
    if plan.mend:
        raise ConfigError(
            f"{plan.shared} ({plan.shared.said_by}) sees a share of what is bad; run `stillroom verify --repair` once, "
            "outside the array or with --job 0/1"
        )


def _executor(plan: Plan, stage: Stage, ranks: "Ranks | None", stop: StopRequest, progress: Progress) -> Executor:
    whole = _executor_of_all(plan, stage, ranks, stop, progress)
    return ArrayJob(plan.shared, whole) if plan.shared is not None else whole


def _executor_of_all(
    plan: Plan, stage: Stage, ranks: "Ranks | None", stop: StopRequest, progress: Progress
) -> Executor:
    if ranks is not None and stage.ranks == "together":
        from stillroom.stages.executors.torchrun import Ranked

        return Ranked(ranks, stop)
    name, _, where = plan.executor.partition(":")
    return executor_named(name)(Request(where, plan.workers, stop, progress.crew))


def _run(stage: Stage, config: Config, plan: Plan, executor: Executor, progress: Progress, *, quiet: bool) -> int:
    for note in stage.notes(config) if stage.notes is not None and not quiet else ():
        print(f"stillroom: {stage.name}: {note}", file=sys.stderr, flush=True)
    summary = execute(stage, config, executor, progress, again=_again(stage, plan))
    if quiet:
        return 0
    return _tell(stage, config, plan, summary)


def _again(stage: Stage, plan: Plan) -> bool:
    """Whether to do what is done. Jobs do not where they join results: one that is started again would undo the end."""
    return plan.again and (plan.shared is None or stage.conclude is None)


def _tell(stage: Stage, config: Config, plan: Plan, summary: Summary) -> int:
    """Print what came of a stage; 1 where it found something bad."""
    concluded = summary.concluded
    if plan.as_json:
        print(json.dumps(concluded, indent=1))
    else:
        print(f"{stage.name:8} {sentence(stage, summary, plan.shared)}", flush=True)
        for line in details(stage, summary):
            print(f"         {line}", flush=True)
    if concluded is None or concluded["ok"]:
        return 0
    for failure in concluded["failures"][:20]:
        print(f"stillroom: {failure['check']}: {failure['where']}: {failure['message']}", file=sys.stderr)
    if plan.mend:
        for line in repair(config, concluded["redo"]):
            print(f"stillroom: {line}", file=sys.stderr)
    return 1


def _print_tasks(stage: Stage, config: Config, plan: Plan) -> None:
    try:
        check, again = stage.done(config), _again(stage, plan)
        left = [
            task
            for place, task in enumerate(stage.tasks(config))
            if (again or not check(task)) and (plan.shared is None or in_share(plan.shared, stage, place, task))
        ]
    except MissingObjectError as error:
        print(f"{stage.name}: tasks are known after the stages before it ({error})")
        return
    for task in left:
        print(f"{stage.name}: {task.name} ({task.units} {stage.unit})")
