"""Four writers of one task, and a reader: one writer's work is left each time, and nobody reads anything else.

In half of the rounds every writer writes other bytes, so that two writers' objects under one record would be seen.
Writers that are killed, suspended, or fail where another has taken over are here too.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import StillroomError
from stillroom.storage.ledger.claims import Claims
from trials.onetask import VIEWS, OneTask
from trials.table import Row
from trials.tiny import STAGES, differences, make_tiny, server, temporaries, unlisted

FULL_ROUNDS, FULL_READS, WRITERS = 100, 10_000, 4
_LONG = 3600.0


def measure(count: int | None, seed: int = 0, folder: Path | None = None) -> Row:
    """Write and read at once.

    Args:
        count: rounds, and a hundredth of the reads; None: 100 rounds, 10,000 reads.
        seed: of the writers' pauses.
        folder: to work in.
    """
    rounds = FULL_ROUNDS if count is None else count
    with tempfile.TemporaryDirectory() as temporary:
        cache = OneTask((folder or Path(temporary)) / "contested")
        cache.create()
        context = server()
        barrier, over, reads = context.Barrier(WRITERS + 1), context.Event(), context.Queue()
        writers = [context.Process(target=_write, args=(cache, rounds, n, seed, barrier)) for n in range(WRITERS)]
        reader = context.Process(target=_read, args=(cache, rounds, FULL_READS * rounds // FULL_ROUNDS, over, reads))
        for process in [*writers, reader]:
            process.start()
        problems = []
        for number in range(rounds):
            barrier.wait()  # they write
            barrier.wait()  # they have written
            wrong = cache.wrong({value_of(number, writer) for writer in range(WRITERS)})
            problems += [f"round {number}: {', '.join(wrong)}"] if wrong else []
            if number + 1 < rounds:
                cache.forget()
        over.set()
        good, named, bad = reads.get()
        for process in [*writers, reader]:
            process.join()
            assert process.exitcode == 0
    return Row(
        "4 writers of one task, a reader meanwhile",
        "one valid state after each round; never partial data",
        rounds - len(problems) + good + named,
        rounds + good + named + len(bad),
        f"{rounds} rounds; {good} reads of one writer's data, {named} named errors"
        + "".join(f"; {problem}" for problem in [*problems, *bad][:5]),
    )


def value_of(number: int, writer: int) -> int:
    """What a writer writes in a round: the same as the others, or something of its own."""
    return 1 + (number * WRITERS + (writer if number % 2 else 0)) % 250


def _write(cache: OneTask, rounds: int, writer: int, seed: int, barrier: Any) -> None:
    draw = random.Random(seed * WRITERS + writer)
    claims = Claims(beat=0.05, patience=_LONG)

    def pause(name: str) -> None:
        time.sleep(draw.uniform(0.0, 0.004))

    for number in range(rounds):
        barrier.wait()
        time.sleep(draw.uniform(0.0, 0.004))
        # In some rounds all of them do it, one after another, over what the reader is reading.
        cache.finish(value_of(number, writer), claims, before_write=pause, again=number % 4 > 1)
        barrier.wait()


def _read(cache: OneTask, rounds: int, least: int, over: Any, result: Any) -> None:
    """Read until the writers are done, and often enough; with one open cache for a while, then with a new one."""
    every = {value_of(number, writer) for number in range(rounds) for writer in range(WRITERS)}
    good = named = 0
    bad = []
    opened = None
    while not over.is_set() or good + named + len(bad) < least:
        number = good + named + len(bad)
        try:
            opened = opened if opened is not None and number % 20 else Cache(cache.writer().ledger.place)
            for says in cache.read(opened, number % VIEWS):
                if len(says) == 1 and says <= every:
                    good += 1
                else:
                    bad.append(f"read {says}")
        except StillroomError:
            named += 1
        except Exception as error:
            bad.append(f"read raised {error!r}")
    result.put((good, named, bad))


def killed(cache: OneTask) -> list[str]:
    """A writer is killed while it holds the claim. On the same machine, the next sees that at once."""
    _halted_before(cache, 1, signal.SIGKILL).join()
    if cache.attempt(2, Claims(patience=_LONG)) != {"value": 2}:
        return ["a killed writer's claim was not taken over"]
    return cache.wrong({2})


def suspended(cache: OneTask, before: int, *, fails: bool = False) -> list[str]:
    """A writer is stopped before one of its writes; another takes over and finishes; the first one wakes up.

    Args:
        cache: where.
        before: which write, from 0; the record is the last.
        fails: whether the one that wakes up then meets a full disk.
    """
    first = _halted_before(cache, before, signal.SIGSTOP, fails=fails)
    if _state(first.pid) != "T":
        return ["the first writer was not stopped"]
    cache.finish(2, Claims(beat=0.05, patience=0.3))
    problems = cache.wrong({2}, halted=True)
    os.kill(first.pid, signal.SIGCONT)
    first.join()
    if first.exitcode != 0:
        return [*problems, f"the first writer ended with {first.exitcode}"]
    if fails:
        # What it wrote over is not vouched for any more, so the task is done again by whoever comes.
        cache.finish(3, Claims())
        return problems + cache.wrong({2, 3})
    return problems + cache.wrong({1, 2})


def _halted_before(cache: OneTask, before: int, halt: signal.Signals, *, fails: bool = False) -> Any:
    """A process that does the task and halts before one of its writes."""
    process = server().Process(target=_halting, args=(cache, before, int(halt), fails))
    process.start()
    while _state(process.pid) not in "TZ":
        time.sleep(0.01)
    return process


def _halting(cache: OneTask, before: int, halt: int, fails: bool) -> None:
    writes = 0

    def before_write(name: str) -> None:
        nonlocal writes
        writes += 1
        if writes == before + 1:
            os.kill(os.getpid(), halt)
        if fails and writes == before + 2:
            raise OSError(28, "No space left on device", name)

    try:
        cache.finish(1, Claims(beat=0.05, patience=_LONG), before_write=before_write)
    except OSError:
        assert fails
    else:
        assert not fails, "it met no full disk"


def _state(pid: int) -> str:
    """Of a process, as the kernel calls it: T is stopped, Z has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def collected_meanwhile(folder: Path) -> list[str]:
    """`gc` again and again while a run writes: it must not take away anything that is in use."""
    tiny = make_tiny(folder)
    tiny.reset(STAGES[0])
    run = tiny.process(list(map(tiny.command, STAGES)))
    run.start()
    while run.is_alive():
        collector = tiny.process([tiny.command("gc")] * 20, log="log-gc")
        collector.start()
        collector.join()
        if collector.exitcode:
            return [f"gc ended with {collector.exitcode}: {(tiny.folder / 'log-gc').read_text()[-400:]}"]
    if run.exitcode:
        return [f"the run ended with {run.exitcode}: {tiny.log()[-400:]}"]
    return differences(tiny.before("end"), tiny.run) + unlisted(tiny.run)


def two_runs_at_once(folder: Path) -> list[str]:
    """Two runs of one config, from nothing, side by side."""
    tiny = make_tiny(folder)
    tiny.reset(STAGES[0])
    runs = [tiny.process(list(map(tiny.command, STAGES)), log=f"log-{number}") for number in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    said = [(tiny.folder / f"log-{number}").read_text()[-400:] for number in range(2)]
    problems = [f"run {n} ended with {run.exitcode}: {said[n]}" for n, run in enumerate(runs) if run.exitcode]
    return problems + differences(tiny.before("end"), tiny.run) + unlisted(tiny.run) + temporaries(tiny.run)


if __name__ == "__main__":
    print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else None))
