"""What is submitted of a stage, whichever the scheduler: how many jobs, which command, and what each may use."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.submit import Submit, asked_for
from stillroom.stages.run.registry import NAMES
from stillroom.storage.errors import ConfigError

_SHARED = ("ingest", "teacher", "verify")
_JOBS = 8


@dataclass(frozen=True)
class StageJobs:
    """One stage's jobs.

    Attributes:
        stage: its name.
        jobs: how many share it.
        asked: what each may use.
        arguments: of the interpreter, for one job; the scheduler's variables tell it which one it is.
        cwd: the folder that relative paths of the config are meant from.
    """

    stage: str
    jobs: int
    asked: Submit
    arguments: Sequence[str]
    cwd: str

    def command(self, python: str) -> list[str]:
        """What one job runs."""
        return [self.asked.python or python, *self.arguments]


def jobs_of(
    config: Config, path: str, overrides: Sequence[str], stages: Sequence[str], most: int | None = None
) -> list[StageJobs]:
    """What is submitted, stage after stage.

    Args:
        config: of the run.
        path: of its file.
        overrides: of --set.
        stages: which; none: all that the run has.
        most: jobs that an array may have.

    Raises:
        ConfigError: a stage of that name is none.
    """
    for name in stages:
        if name not in (*NAMES, "train-many"):
            raise ConfigError(f"--stage {name} is no stage; there are: {', '.join(NAMES)}, train-many")
    if not stages:
        stages = [name for name in NAMES if name != "student" or config.student]
    found = []
    for stage in stages:
        asked = asked_for(config.submit, stage)
        wanted = asked.jobs or (_JOBS if stage in _SHARED else len(config.student) if stage == "student" else 1)
        settings = [item for override in overrides for item in ("--set", override)]
        arguments = ["-m", "stillroom.stages", stage, str(Path(path).absolute()), *settings]
        found.append(StageJobs(stage, min(wanted, most or wanted), asked, arguments, os.getcwd()))  # noqa: PTH109
    return found
