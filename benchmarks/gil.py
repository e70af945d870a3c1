"""Microseconds of the interpreter lock a view, and what is left of it to a main thread that only runs Python.

    python benchmarks/gil.py [--photos FOLDER] [--size 224] [--batch 256] [--threads 1] [--rounds 5]

A student's step is a thousand kernel launches, each by Python: whoever holds the lock meanwhile is in its way. A cache
is replayed, and the teacher's stage run, in a thread beside the main thread, which does one of two things.

- It sleeps, and nobody wants the lock: how long is it held? A compiled loop, which needs no lock, asks every 40
  microseconds whether any thread has it. CPython up to 3.11 tells; on a later one the column is empty.
- It counts, and nothing else: how much does it lose? What passed by the clock, less its time on a core and in line for
  one (Linux tells both: /proc/self/task/…/schedstat), is the time that it waited for the lock. The other
  thread gets the lock 5 ms after it asks, and so is slower then.

Where it is held, by function: by `py-spy record --gil --nonblocking`, where py-spy is on the PATH; by where the other
thread is each time that the counting one got the lock back, elsewhere. It needs no GPU.
"""

import argparse
import collections
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import loader
import material
import numba
import numpy as np
import timing
import torch

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset

STUDENT = 3500
"""Views a second of a ResNet-50 in bfloat16 on an H100: the rate at which a loader must not be in the way."""
REPLAY, TEACHER = "replay, with logits and proof", "the teacher's stage"
GAP_NS = 20_000
"""A pause of the main thread from which on it looks where the lock was."""
FUNCTIONS = 12
QUALITY = 97
"""Of JPEGs, which makes photos of 72 KB."""
TURNS = 4
"""Of a way, that py-spy looks at."""
RATE = 1000
"""Samples a second that py-spy is asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of JPEGs")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
    parser.add_argument("--teacher", default=loader.TEACHER, help="its own forward pass holds the lock, too")
    parser.add_argument("--ways", nargs="+", choices=("replay", "teacher"), default=["replay", "teacher"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(prepared(Path(folder), arguments), arguments)
        rows = measured(ways, arguments.rounds)
        functions = {name: held_by(way, Path(folder)) for name, way in ways.items()}
    for name, found in functions.items():
        print(f"{name}: microseconds a view by function, {found.how}\n{timing.table(found.rows)}\n", flush=True)
    timing.save("gil", rows, size=arguments.size, batch=arguments.batch, render_threads=arguments.threads)


def prepared(folder: Path, arguments: argparse.Namespace) -> Config:
    """A run with a cache."""
    source = arguments.photos or material.photos(
        folder / "photos", min(200, arguments.samples), 500, 375, quality=QUALITY
    )
    copies = material.copies(source, folder / "copies", -(-arguments.samples // len(list(source.rglob("*.jpg")))))
    config = material.run_config(
        folder / "run",
        copies,
        arguments.teacher,
        arguments.size,
        data={"samples_per_shard": 1000},
        render={"threads": arguments.threads},
    )
    material.run_stages(config, ["ingest", "seeds", "teacher"])
    return config


def ways_of(config: Config, arguments: argparse.Namespace) -> dict[str, timing.Way]:
    """What is measured: each makes views, in the thread that calls it, and says how many."""
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    replayed = ReplayLoader(
        cache,
        data=data,
        batch_size=min(arguments.batch, data.samples),
        size=arguments.size,
        seed=0,
        teacher="t",
        threads=arguments.threads,
    )

    def stage() -> int:
        shutil.rmtree(Path(str(config.cache_place)), ignore_errors=True)
        material.run_stages(config, ["seeds"])
        (summary,) = material.run_stages(config, ["teacher"])
        return summary.units

    ways = {"replay": lambda: sum(len(batch) for batch in replayed.epoch(0)), "teacher": stage}
    return {{"replay": REPLAY, "teacher": TEACHER}[name]: ways[name] for name in arguments.ways}


class Sampler:
    """Asks, from a thread without the lock, whether any thread has it."""

    def __init__(self) -> None:
        ask = getattr(ctypes.CDLL(None), "_PyThreadState_UncheckedGet", None)
        self.works = False
        self._watch: Callable[..., None] = lambda *_: None
        if ask is None:
            return
        ask.restype, ask.argtypes = ctypes.c_size_t, ()
        nap = ctypes.CDLL(None).usleep
        nap.restype, nap.argtypes = ctypes.c_int, (ctypes.c_uint32,)

        @numba.njit(nogil=True)
        def watch(stop, seen):
            while stop[0] == 0:
                nap(np.uint32(40))
                seen[1] += ask() != 0
                seen[0] += 1

        self._watch = watch
        watch(np.ones(1, np.int64), np.zeros(2, np.int64))
        self.works = self.share(lambda: spin(0.2)) > 0.9 and self.share(lambda: time.sleep(0.2)) < 0.1

    def share(self, work: Callable[[], object]) -> float:
        """Share of the time of some work in which the lock was held by anyone."""
        stop, seen = np.zeros(1, np.int64), np.zeros(2, np.int64)
        watcher = threading.Thread(target=self._watch, args=(stop, seen))
        watcher.start()
        worker = threading.Thread(target=work, name="loader")
        worker.start()
        worker.join()
        stop[0] = 1
        watcher.join()
        return float(seen[1] / max(1, seen[0]))


def spin(seconds: float) -> None:
    """Hold the lock."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@dataclass(frozen=True)
class Turn:
    """What the main thread saw while another one worked.

    Attributes:
        seconds: by the clock.
        waited: of these, without the lock.
            views: that the other thread made.
        places: seconds of pauses by where the other thread was at their end.
    """

    seconds: float
    waited: float
    views: int
    places: Mapping[str, float]


def beside(way: timing.Way) -> Turn:
    """Run a way in a thread, and Python here until it ends."""
    views: list[int] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            views.append(way())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="loader")
    places: collections.Counter[str] = collections.Counter()
    clock, core, line = time.perf_counter(), time.thread_time(), in_line()
    thread.start()
    other = thread.ident
    last = time.perf_counter_ns()
    while thread.is_alive():
        for _ in range(50):
            pass
        now = time.perf_counter_ns()
        if now - last > GAP_NS:
            places[place_of(sys._current_frames().get(other))] += (now - last) / 1e9
            last = time.perf_counter_ns()
        else:
            last = now
    seconds = time.perf_counter() - clock
    waited = seconds - (time.thread_time() - core) - (in_line() - line)
    thread.join()
    if failed:
        raise failed[0]
    return Turn(seconds, max(waited, 0.0), views[0], places)


def in_line() -> float:
    """Seconds that this thread was ready to run and no core was free, so far; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def place_of(frame: FrameType | None) -> str:
    """The innermost of our own functions in a stack."""
    while frame is not None and "stillroom" not in frame.f_code.co_filename and frame.f_back is not None:
        frame = frame.f_back
    if frame is None:
        return "(ended)"
    return f"{frame.f_code.co_qualname} ({short(frame.f_code.co_filename)}:{frame.f_lineno})"


def short(path: str) -> str:
    """A file's name from its floor on."""
    _, found, rest = path.rpartition("stillroom/")
    return rest if found else Path(path).name


def measured(ways: Mapping[str, timing.Way], rounds: int) -> list[dict[str, Any]]:
    """A row for each way; rounds take turns."""
    sampler = Sampler()
    for way in ways.values():
        way()
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    alone: dict[str, list[float]] = {name: [] for name in ways}
    held: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            turns[name].append(beside(way))
            views: list[int] = []
            clock = time.perf_counter()
            share = sampler.share(lambda way=way, views=views: views.append(way()))
            seconds = time.perf_counter() - clock
            alone[name].append(views[0] / seconds)
            if sampler.works:
                held[name].append(1e6 * share * seconds / views[0])
    rows = []
    for name, seen in turns.items():
        row = {
            "what": name,
            "held_us_a_view": spread(held[name], 1) if held[name] else None,
            "views_per_second": spread(alone[name], 0),
            "main_thread_waits_us_a_view": spread([1e6 * turn.waited / turn.views for turn in seen], 1),
            "main_thread_keeps": spread([1 - turn.waited / turn.seconds for turn in seen], 3),
            "views_per_second_meanwhile": spread([turn.views / turn.seconds for turn in seen], 0),
        }
        if held[name]:
            row[f"held_at_{STUDENT}_views_per_second"] = round(timing.statistics.median(held[name]) * STUDENT / 1e6, 3)
        rows.append(row)
        print(row, flush=True)
    return rows


def spread(values: list[float], digits: int) -> dict[str, float]:
    """Median, lowest and highest."""
    found = timing.statistics.median(values), min(values), max(values)
    return dict(zip(("median", "lowest", "highest"), (round(value, digits) for value in found), strict=True))


@dataclass(frozen=True)
class Held:
    """Where the lock is held.

    Attributes:
        how: that was found out.
        rows: by function, the longest first.
    """

    how: str
    rows: Sequence[Mapping[str, Any]]


def held_by(way: timing.Way, folder: Path) -> Held:
    """Where the lock is held, by function."""
    sampler = shutil.which("py-spy")
    found = sampled(sampler, way, folder / "samples.txt") if sampler else None
    if found is not None:
        return Held("by py-spy", first(found))
    turn = beside(way)
    share = turn.waited / max(sum(turn.places.values()), 1e-9)  # a pause may have been one for a core
    waits = {place: 1e6 * share * seconds / turn.views for place, seconds in turn.places.items()}
    return Held("by where the main thread got the lock back", first(waits))


def first(found: Mapping[str, float]) -> list[dict[str, Any]]:
    """The functions that hold the lock longest."""
    longest = sorted(found.items(), key=lambda item: -item[1])[:FUNCTIONS]
    return [{"function": place, "us_a_view": round(taken, 1)} for place, taken in longest]


def sampled(sampler: str, way: timing.Way, samples: Path) -> dict[str, float] | None:
    """Microseconds a view by function, by py-spy; None where it may not look into this process."""
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1 & (2**64 - 1)), 0, 0, 0)  # PR_SET_PTRACER, for any process
    command = [
        sampler,
        "record",
        "--gil",
        "--nonblocking",
        "--format",
        "raw",
        "--rate",
        str(RATE),
        "--duration",
        "unlimited",
    ]
    command += ["--output", str(samples), "--pid", str(os.getpid())]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(2.0)  # until it has read our symbols
    views = sum(way() for _ in range(TURNS)) if watcher.poll() is None else 0
    if watcher.poll() is None:
        watcher.send_signal(signal.SIGINT)
    said, _ = watcher.communicate()
    if not views or not samples.exists():
        print(f"py-spy did not do it: {said.strip()[-300:]}", file=sys.stderr)
        return None
    found: collections.Counter[str] = collections.Counter()
    for line in samples.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        ours = [frame for frame in stack.split(";") if "stillroom" in frame]
        if ours:
            name, _, path = ours[-1].partition(" (")
            found[f"{name} ({short(path)}"] += int(count)
    return {place: 1e6 * count / RATE / views for place, count in found.items()}


if __name__ == "__main__":
    main()
