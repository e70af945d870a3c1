"""The command line: reads a config, chooses an executor, runs stages, says what came of it.

Exit status: 0 done, 1 failed, 2 wrong usage or config, 75 stopped by SIGTERM or SIGUSR1, 130 by Ctrl-C: run it
again.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated

from cyclopts import App, Parameter

from stillroom.pipeline.config.config import load_config
from stillroom.pipeline.device.malloc import keep_freed_memory
from stillroom.stages.executors.array_index import find_job
from stillroom.stages.executors.registry import PROCESS
from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.maintenance.status import in_lines, status_of
from stillroom.stages.run.executor import InProcess
from stillroom.stages.run.progress import make_progress
from stillroom.stages.run.registry import NAMES, packaged
from stillroom.stages.run.shutdown import StopRequest
from stillroom.storage.errors import ConfigError

from .exit_status import status_of_call
from .run_stages import Plan, run_stages

app = App(
    name="stillroom",
    help="Knowledge distillation from a cached teacher: run the teacher once, replay the identical views for ever.",
    result_action="return_value",
)


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What every command takes.

    Attributes:
        set: a setting of the config to change, as table.key=value; may be given several times.
        dry_run: print the tasks that are left, and write nothing.
        dask: run tasks on Dask: "local" for worker processes here, "cuda" for one on each GPU here, "slurm" for jobs
            of Slurm, or the address of a scheduler.
        executor: who runs the tasks: "process", "dask:WHERE", or one that an installed package brings.
        workers: how many: 2 with local, one for each GPU with cuda, submit.jobs with slurm, unless this says.
        job: do a share of the stage, as I/N, the first job being 0/N; a scheduler's array says so itself.
    """

    set: Annotated[tuple[str, ...], Parameter(name="--set", negative="", allow_leading_hyphen=False)] = ()
    dry_run: Annotated[bool, Parameter(negative="")] = False
    dask: str | None = None
    executor: str | None = None
    workers: int | None = None
    job: str | None = None


_NONE = Options()
_Flag = Annotated[bool, Parameter(negative="")]
_Json = Annotated[bool, Parameter("--json", negative="")]
_Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]


@app.command
def ingest(config: str, options: Options = _NONE) -> int:
    """Images into data shards: a folder of class folders, or WebDataset tars."""
    return _run_stages(config, options, ["ingest"])


@app.command
def seeds(config: str, options: Options = _NONE) -> int:
    """Create the cache, with one seed for each sample."""
    return _run_stages(config, options, ["seeds"])


@app.command
def teacher(config: str, options: Options = _NONE) -> int:
    """Run the teacher once over every view, and keep its logits."""
    return _run_stages(config, options, ["teacher"])


@app.command
def verify(
    config: str,
    options: Options = _NONE,
    *,
    repair: _Flag = False,
    as_json: _Json = False,
) -> int:
    """Check what is on disk, and make a share of it again.

    Args:
        config: of the run.
        options: what every command takes.
        repair: drop the records of tasks whose work is bad; the next run does exactly those again.
        as_json: print all that was found.
    """
    return _run_stages(config, options, ["verify"], again=True, as_json=as_json, mend=repair)


@app.command
def student(config: str, options: Options = _NONE) -> int:
    """Train the students."""
    return _run_stages(config, options, ["student"])


@app.command(name="train-many")
def train_many(config: str, options: Options = _NONE) -> int:
    """Train the students from one pass over the data, each batch decoded once for all that can share it."""
    return _run_stages(config, options, ["train-many"])


@app.command
def report(config: str, options: Options = _NONE) -> int:
    """Write the report, one HTML file."""
    return _run_stages(config, options, ["report"], again=True)


@app.command
def run(config: str, options: Options = _NONE) -> int:
    """All stages in order; what is done is not done again."""
    return _run_stages(config, options, NAMES)


@app.command
def gc(config: str, *, set: _Settings = (), dry_run: _Flag = False, as_json: _Json = False) -> int:  # noqa: A002
    """Remove what killed runs left behind; nothing that a record lists, and nothing that is being written."""
    for item in collect(load_config(config, set), dry_run=dry_run):
        verb = "kept" if item.kept else "would remove" if dry_run else "removed"
        if as_json:
            print(json.dumps({**asdict(item), "removed": not item.kept and not dry_run}))
        else:
            print(f"{verb} {item.place}: {item.name}, {item.size:,} bytes{item.kept and f' ({item.kept})'}")
    return 0


@app.command
def seal(config: str, *, set: _Settings = (), as_json: _Json = False) -> int:  # noqa: A002
    """Put the records of a finished cache's tasks into a few objects, which open at once."""
    from stillroom.stages.maintenance.seal import seal_cache

    found = seal_cache(load_config(config, set))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        size = f"{found['parts']} objects, {found['bytes']:,} bytes"
        print(f"sealed {found['records']:,} records of {found['cache']} in {size}")
    return 0


@app.command
def estimate(
    config: str,
    *,
    set: Annotated[tuple[str, ...], Parameter("--set", negative="")] = (),  # noqa: A002
    samples: int | None = None,
    views: int | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> int:
    """What the teacher's run would take, from a small probe: bytes, objects, hours, and the error of every codec.

    Args:
        config: a configuration in TOML.
        set: a setting of it to change, as table.key=value; may be given several times.
        samples: plan for so many samples instead of those at hand.
        views: plan for so many views of each instead of the config's.
        as_json: for machines.
    """
    from stillroom.stages.estimate.estimate import estimate as estimated  # brings torch along
    from stillroom.stages.estimate.text import in_lines

    loaded = load_config(config, set)
    with StopRequest().listening() as stop, closing(InProcess(stop)) as executor, make_progress() as progress:
        found = estimated(loaded, executor, progress, samples, views)
    for line in [json.dumps(found, indent=1)] if as_json else in_lines(found):
        print(line)
    return 0


@app.command
def study(
    data: str,
    *,
    budget: float = 60.0,
    dir: str = "runs/study",  # noqa: A002
    seeds: int = 3,
    size: int = 64,
    student: str = "timm:test_resnet",
    teacher: str = "timm:resnet10t",
) -> int:
    """Compare the designs, view counts, temperatures and codecs on your own images, over seeds; writes one page.

    Args:
        data: a folder of class folders, or of two such folders named "train" and "val".
        budget: minutes that it may take, about; views and epochs are chosen to fit.
        dir: where all of it is kept; a study that was stopped goes on.
        seeds: students of each kind at most.
        size: height and width of the views in pixels.
        student: the model that is taught.
        teacher: the model that teaches, which is trained on the labels first.
    """
    from stillroom.stages.study.budget import Wishes
    from stillroom.stages.study.study import PAGE, Study  # brings torch along

    wishes = Wishes(data, dir, budget, seeds, size, student, teacher)
    with StopRequest().listening() as stop, closing(InProcess(stop)) as executor, make_progress() as progress:
        for line in Study(wishes, executor, progress).run():
            print(line)
    print(f"The page: {dir}/{PAGE}")
    return 0


@app.command
def submit(
    config: str,
    *,
    set: _Settings = (),  # noqa: A002
    slurm: _Flag = False,
    kubernetes: _Flag = False,
    stage: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    dry_run: _Flag = False,
) -> int:
    """Have a cluster run the stages as arrays of jobs; what is asked for is said in the config's [submit].

    Args:
        config: of the run.
        set: a setting of it to change, as table.key=value; may be given several times.
        slurm: as batch scripts, chained by sbatch.
        kubernetes: as Indexed Jobs, by kubectl, waiting for each.
        stage: one to submit; may be given several times; all of them otherwise.
        dry_run: print the files, and write and submit nothing.
    """
    from stillroom.stages.submit.submit import submit_run

    if slurm == kubernetes:
        raise ConfigError("say where: --slurm or --kubernetes")
    for line in submit_run(config, set, "slurm" if slurm else "kubernetes", stage, dry_run=dry_run):
        print(line)
    return 0


@app.command
def status(config: str, *, set: _Settings = (), as_json: _Json = False) -> int:  # noqa: A002
    """What is done, running, failed and missing; how fast it goes, how long it takes, and how many bytes."""
    found = status_of(load_config(config, set))
    for line in [json.dumps(found, indent=1)] if as_json else in_lines(found):
        print(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `stillroom` command."""
    os.environ["WDS_SECURE"] = "1"
    keep_freed_memory()
    given = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(status_of_call(lambda: _called(given)))


def _called(arguments: Sequence[str]) -> object:
    name = arguments[0] if arguments else ""
    if name and not name.startswith("-") and name not in app and packaged(name) is not None:
        app.command(_command_of(name), name=name)
    return app(arguments, exit_on_error=False, print_error=False)


def _command_of(name: str) -> Callable[..., int]:
    """The command of a stage that a package brings."""

    def run_it(config: str, options: Options = _NONE, *, as_json: _Json = False) -> int:
        return _run_stages(config, options, [name], as_json=as_json)

    return run_it


def _executor_of(options: Options) -> str:
    if options.dask is None:
        return options.executor or PROCESS
    if options.executor is not None:
        raise ConfigError(f"--dask {options.dask} is short for --executor dask:{options.dask}; give one of them")
    return f"dask:{options.dask}"


def _run_stages(
    path: str, options: Options, names: Sequence[str], *, again: bool = False, as_json: bool = False, mend: bool = False
) -> int:
    plan = Plan(
        names,
        _executor_of(options),
        options.workers,
        again=again,
        as_json=as_json,
        mend=mend,
        dry_run=options.dry_run,
        job=find_job(options.job, os.environ),
    )
    return run_stages(load_config(path, options.set), plan)
