"""What the check of first-touched objects costs a student: its share of an epoch's time.

    python benchmarks/first_touch.py CONFIG [--epochs 2]

Trains a student of a finished run (into a temporary folder) and times, inside the same run, what reading through the
checked store adds to a plain read: the whole object in place of the part that is asked for, its digest, its record.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

from stillroom.pipeline.config.config import load_config
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache import zarr_store


class Clock:
    """Seconds and calls of a method, while it is replaced by its timed self."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def timed(self, method):
        def call(*args, **kwargs):
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls += 1

        return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    config = load_config(arguments.config, [*arguments.set, f"student.epochs={arguments.epochs}"])
    student = next(item for item in config.student if item.target == "cache")
    with tempfile.TemporaryDirectory() as folder:
        config = config.model_copy(update={"student": [student.model_copy(update={"dir": f"{folder}/student"})]})
        checking, reading = Clock(), Clock()
        zarr_store.CheckedStore._vouched = checking.timed(zarr_store.CheckedStore._vouched)
        zarr_store.CheckedStore._get = reading.timed(zarr_store.CheckedStore._get)
        summary = execute(stage_named("student"), config, InProcess(), NoProgress())
    (result,) = summary.results.values()
    figures = {
        "config": Path(arguments.config).name,
        "epochs": arguments.epochs,
        "views": summary.units,
        "student seconds": result["seconds"],
        "objects checked": checking.calls,
        "seconds in the check (record, digest)": round(checking.seconds, 4),
        "seconds in all reading of the cache": round(reading.seconds, 4),
        "share of the check": round(checking.seconds / result["seconds"], 5),
        "share of all reading, an upper bound of what checking adds": round(reading.seconds / result["seconds"], 5),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
