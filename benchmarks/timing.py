"""Comparing ways of doing one thing within one run: interleaved rounds, medians, spread; and where the figures go."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stillroom.pipeline.device.malloc import keep_freed_memory

keep_freed_memory()  # as the command does, for every way alike: with what they fork, too
RESULTS = Path(os.environ.get("STILLROOM_RESULTS", Path(__file__).parent / "results"))
Way = Callable[[], int]
"""Does the thing once; how many units that were."""


@dataclass
class Timing:
    """What a way took, round by round.

    Attributes:
        seconds: by the clock.
        cpu: seconds of this process and of its children that run.
        units: done in a round.
    """

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    units: list[int] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Units per second of each round."""
        return [units / seconds for units, seconds in zip(self.units, self.seconds, strict=True)]

    def row(self, name: str, unit: str) -> dict[str, Any]:
        """For the results: medians, and the slowest and fastest round."""
        per_unit = [1000 * cpu / units for cpu, units in zip(self.cpu, self.units, strict=True)]
        return {
            "what": name,
            f"{unit}_per_second": significant(statistics.median(self.rates)),
            "lowest": significant(min(self.rates)),
            "highest": significant(max(self.rates)),
            "cpu_ms": significant(statistics.median(per_unit)),
        }

    def against(self, other: "Timing") -> dict[str, float]:
        """This rate over another's, by rounds: median, lowest, highest."""
        ratios = [mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True)]
        found = statistics.median(ratios), min(ratios), max(ratios)
        return dict(zip(("median", "lowest", "highest"), (round(value, 3) for value in found), strict=True))


def interleaved(
    ways: Mapping[str, Way], rounds: int, before: Callable[[str], None] = lambda _: None
) -> dict[str, Timing]:
    """Time each way once a round, after one untimed turn of each; every other round goes backwards.

    Args:
        ways: by name.
        rounds: how many.
        before: called with the name ahead of each turn, untimed.
    """
    for name, way in ways.items():
        before(name)
        way()
    found = {name: Timing() for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            before(name)
            wall, cpu = time.perf_counter(), cpu_seconds()
            units = ways[name]()
            found[name].seconds.append(time.perf_counter() - wall)
            found[name].cpu.append(cpu_seconds() - cpu)
            found[name].units.append(units)
    return found


def cpu_seconds() -> float:
    """Of this process, and of workers that torch started and that still run, which nothing but /proc tells."""
    total = time.process_time()
    for child in torch.multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def significant(value: float, digits: int = 4) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")


def machine() -> dict[str, Any]:
    """What figures depend on beside the code."""
    packages = ("stillroom", "torch", "torchvision", "nvidia-dali-cuda130", "zarr", "numpy", "pillow")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {gpu or 'no GPU'}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def save(name: str, rows: Sequence[Mapping[str, Any]], **facts: Any) -> None:
    """Write `results/NAME.json`, and print its rows as a table."""
    RESULTS.mkdir(exist_ok=True)
    stated = {**machine(), **facts, "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(stated, indent=1, ensure_ascii=False) + "\n")
    print(table(rows))
    for key, value in facts.items():
        print(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    print(f"{stated['machine']}, load {stated['load_average']}: benchmarks/results/{name}.json\n", flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows in Markdown; columns are all keys in the order in which they first come."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *[[_cell(row.get(column)) for column in columns] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{significant(value, 3):g}"
    if isinstance(value, Mapping):
        return f"{value['median']:g} ({value['lowest']:g} to {value['highest']:g})"
    return "" if value is None else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.machine()
