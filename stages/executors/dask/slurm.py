"""What dask-jobqueue's SLURMCluster is asked for: workers as the config's [submit] tables want jobs.

A pure function of them; knows no Dask.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from stillroom.pipeline.config.submit import Submit
from stillroom.storage.errors import ConfigError

JOBS = 8
"""Workers, where nobody says how many."""
MARGIN_SECONDS = 120
"""A worker is gone so long before its time is up."""
_STAGGER_SHARE = 20
_LARGEST_STAGGER = 300


def arguments(asked: Submit, stage: str, folder: Path) -> dict[str, Any]:
    """Arguments of a SLURMCluster, each of whose jobs is one worker.

    Args:
        asked: what the stage asks for.
        stage: its name.
        folder: scripts' own; logs go into logs/ there, and the certificates that workers show each other beside it.

    Raises:
        ConfigError: a worker would have several GPUs, or too little time; or dask-jobqueue takes no such folder.
    """
    if shlex.quote(str(folder)) != str(folder) or "%" in str(folder):
        raise ConfigError(f"dask-jobqueue takes no folder with such characters for logs: {folder}; set submit.dir")
    if asked.gpus > 1:
        raise ConfigError(
            f"submit.gpus is {asked.gpus}; a Dask worker uses one GPU: set it to 1, and --workers to how many you want"
        )
    directives = [line.removeprefix("#SBATCH").strip() for line in asked.lines if line.startswith("#SBATCH")]
    found: dict[str, Any] = {
        "cores": 1,  # one task at a time
        "processes": 1,
        "job_cpu": asked.cpus,
        "job_mem": asked.memory,
        "memory": f"{asked.memory}iB",
        "queue": asked.partition,
        "account": asked.account,
        "walltime": asked.time,
        "job_name": f"stillroom-{stage}",
        "log_directory": str(folder / "logs"),
        "job_extra_directives": [*([f"--gres=gpu:{asked.gpus}"] if asked.gpus else []), *directives],
        "job_script_prologue": [
            *(line for line in asked.lines if not line.startswith("#SBATCH")),
            "export WDS_SECURE=1",
            f"export OMP_NUM_THREADS={asked.cpus}",
            f"cd {shlex.quote(os.getcwd())} || exit 1",  # noqa: PTH109
            *([asked.activate] if asked.activate else []),
        ],
        "python": shlex.quote(asked.python or sys.executable),
        # Slurm itself watches the memory; and a worker's web pages are for nobody elsewhere.
        "worker_extra_args": ["--memory-limit", "0", "--dashboard-address", "127.0.0.1:0"],
        "security": True,  # who can reach a scheduler can run anything on it, and clusters have many users
        "shared_temp_directory": str(folder),
    }
    if asked.time is None:
        found["job_directives_skip"] = ["-t "]  # dask-jobqueue's own half an hour
    else:
        # Dask lets go of the task in hand then; before that, workers end by themselves between two tasks.
        lifetime, stagger = _lifetime(asked.time)
        found["worker_extra_args"] += ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"]
    return found


def lifetime_of(asked: Submit) -> int | None:
    """Seconds that every worker may count on; None where no wall time is asked for."""
    if asked.time is None:
        return None
    lifetime, stagger = _lifetime(asked.time)
    return lifetime - stagger


def _lifetime(time: str) -> tuple[int, int]:
    """After how many seconds Dask ends a worker, and by how many at most that differs from worker to worker."""
    wall = seconds_of(time)
    stagger = min(_LARGEST_STAGGER, wall // _STAGGER_SHARE)
    lifetime = wall - MARGIN_SECONDS - stagger
    if lifetime <= stagger:
        raise ConfigError(f"submit.time is {time}; workers end {MARGIN_SECONDS} s before, so it must be longer")
    return lifetime, stagger


def seconds_of(time: str) -> int:
    """Slurm's wall time: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
