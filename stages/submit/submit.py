"""Submitting a run to a cluster: a file for each stage, for people to read and edit; then the scheduler's command."""

from collections.abc import Sequence
from typing import Literal

from stillroom.pipeline.config.config import load_config
from stillroom.stages.run.shutdown import StopRequest

from . import kubernetes, slurm
from .stage_jobs import jobs_of


def submit_run(
    path: str,
    overrides: Sequence[str],
    scheduler: Literal["slurm", "kubernetes"],
    stages: Sequence[str] = (),
    *,
    dry_run: bool = False,
) -> list[str]:
    """Write a file for each stage, and submit them in order.

    Args:
        path: of the config.
        overrides: of --set.
        scheduler: whose.
        stages: which; none: all that the run has.
        dry_run: write and submit nothing.

    Returns:
        Lines for people; with `dry_run`, the files' own.
    """
    config = load_config(path, overrides)
    folder = config.jobs_folder
    on_slurm = scheduler == "slurm"
    most = slurm.largest_array() if on_slurm else None
    texts = {}
    for work in jobs_of(config, path, overrides, stages, most):
        file = folder / f"{work.stage}.{'sbatch' if on_slurm else 'yaml'}"
        texts[file] = slurm.script(work, file) if on_slurm else kubernetes.text(work, config.run.name)
    if dry_run:
        return [line for file, text in texts.items() for line in (f"--- {file}", *text.splitlines())]
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    files = list(texts)
    if on_slurm:
        numbers = slurm.submit(files)
    else:
        with StopRequest().listening() as stop:
            numbers = kubernetes.submit(files, stop)
    return [f"{file.stem:8} {number}: {file}" for file, number in zip(files, numbers, strict=True)]
