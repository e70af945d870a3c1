"""A tiny run whose stages the jobs of an array share, beside the same one made by one process."""

import shutil
from collections.abc import Iterable
from multiprocessing.process import BaseProcess

from stillroom.storage.ledger.ledger import FOLDER
from trials.tiny import Tiny, differences, false_records, temporaries


class Array:
    """A tiny run whose stages jobs share.

    Args:
        tiny: its folder.
        stages: up to which it is made.
    """

    def __init__(self, tiny: Tiny, stages: Iterable[str] = ("ingest", "seeds", "teacher", "verify")) -> None:
        self.tiny = tiny
        self.reference = tiny.folder / "reference"
        self.config = tiny.configure("jobs", views=4, samples=2)
        for stage in stages:
            assert tiny.do(self.command(stage)) == 0, tiny.log()
            shutil.copytree(tiny.run, self.reference / stage)

    def command(self, stage: str, *more: str) -> list[str]:
        return [stage, str(self.config), *more]

    def begin_after(self, stage: str | None) -> None:
        """Go back to what the one process had after a stage; None: to nothing."""
        shutil.rmtree(self.tiny.run, ignore_errors=True)
        if stage is not None:
            shutil.copytree(self.reference / stage, self.tiny.run)

    def start(self, stage: str, index: int, count: int) -> BaseProcess:
        job = self.tiny.process([self.command(stage, "--job", f"{index}/{count}")], log=f"log-{index}")
        job.start()
        return job

    def in_turn(self, stage: str, indexes: Iterable[int], count: int) -> None:
        for index in indexes:
            job = self.start(stage, index, count)
            job.join()
            assert job.exitcode == 0, self.said(index)

    def side_by_side(self, stage: str, count: int) -> None:
        jobs = [self.start(stage, index, count) for index in range(count)]
        for index, job in enumerate(jobs):
            job.join()
            assert job.exitcode == 0, self.said(index)

    def said(self, index: int) -> str:
        """What a job printed."""
        return (self.tiny.folder / f"log-{index}").read_text()

    def wrong(self, stage: str) -> list[str]:
        """What is otherwise than after the one process's stage."""
        run = self.tiny.run
        found = differences(self.reference / stage, run) + false_records(run) + temporaries(run)
        # Scripts and logs may stay; what verify's jobs kept may not.
        return [problem for problem in found if not problem.startswith("jobs/") or f"/{FOLDER}/" in problem]
