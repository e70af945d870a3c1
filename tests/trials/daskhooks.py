"""Loaded by a Dask worker before it begins (`preload`): counts what it builds, and has it halt or die in mid-task.

What it is to do is said in variables: STILLROOM_BUILDS, STILLROOM_PAUSE: folders; STILLROOM_DIE: a block, as "0.1".
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from stillroom.stages.ingest import shard as ingestshard
from stillroom.stages.teacher import worker_cache
from stillroom.storage.writers.block import BlockWriter
from trials.tiny import examine_headers


def dask_setup(worker: Any) -> None:
    """Called by Dask."""
    ingestshard.examine_apart = examine_headers
    builds, pause, die = (os.environ.get(f"STILLROOM_{name}") for name in ("BUILDS", "PAUSE", "DIE"))
    if builds:
        worker_cache.load_teacher = _counted(worker_cache.load_teacher, Path(builds))
        worker_cache.Renderer = _counted(worker_cache.Renderer, Path(builds))
    if pause:
        _before_block(lambda _: _pause(Path(pause)))
    if die:
        _before_block(lambda block: os.kill(os.getpid(), signal.SIGKILL) if block == die else None)


def _counted(build: Any, folder: Path) -> Any:
    def counted(*arguments: Any, **options: Any) -> Any:
        with (folder / f"{build.__name__}-{os.getpid()}").open("a") as log:
            log.write("built\n")
        return build(*arguments, **options)

    return counted


def _before_block(act: Any) -> None:
    """When a block's views are rendered and answered, and its claim is held, but nothing of it is written."""
    finish = BlockWriter.finish

    def acted(self: Any, *rest: Any) -> Any:
        shard, _, block = self.task.rpartition("/")[2].partition(".")
        act(f"{int(shard)}.{int(block)}")
        return finish(self, *rest)

    BlockWriter.finish = acted


def _pause(folder: Path) -> None:
    """The first one to come here says who it is, and waits until it may go on."""
    try:
        with (folder / "paused").open("x") as said:
            said.write(f"{os.getpid()}\n")
    except FileExistsError:
        return
    while not (folder / "go").exists():
        time.sleep(0.05)
