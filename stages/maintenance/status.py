"""Status: how far each stage is, who is at it, and what went wrong, from the ledgers alone.

Each place is listed once, and what it holds is told from the names. A record that is of other inputs than this run's
is not told apart here; the stages do that before they run.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.registry import NAMES
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger import failures
from stillroom.storage.ledger.claims import Holder, holder_of
from stillroom.storage.ledger.snapshot import Snapshot
from stillroom.storage.objects.base import Place

from .expected_records import Expected, expected
from .throughput import pace_of

_CLAIM = ".claim"
_LISTED = 5
"""Slowest tasks that are named."""


def status_of(config: Config) -> dict[str, Any]:
    """Plain data: for each stage, what is done, running, failed and missing; null where that is not known yet."""
    looked: dict[str, Look] = {}

    def look(place: Place) -> "Look":
        if place.url not in looked:
            looked[place.url] = Look(place)
        return looked[place.url]

    return {"run": config.run.name, "stages": [_stage(config, name, look) for name in NAMES]}


class Look:
    """One look at a place's ledger: names from one listing, records when they are asked for."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.records = Snapshot(place)
        self.done = frozenset(self.records.tasks())
        folder = len("ledger/")
        self.claimed = [name[folder : -len(_CLAIM)] for name in self.records.names if name.endswith(_CLAIM)]
        noted = (failures.noted(name) for name in self.records.names)
        self.failed = [task for task in noted if task is not None and task not in self.done]

    def running(self, tasks: Mapping[str, int]) -> Iterator[tuple[str, Holder]]:
        """Live claims on some tasks; layouts share one."""
        folders = {task.rpartition("/")[0] for task in tasks if task not in self.done}
        for claim in self.claimed:
            if claim in tasks or claim in folders:
                holder = holder_of(self.place, claim)
                if holder is not None and not holder.process.ended():
                    yield claim, holder


def _stage(config: Config, name: str, look: Any) -> dict[str, Any]:
    try:
        parts = list(expected(config, name))
    except MissingObjectError:
        return {"stage": name, "tasks": None, "done": None, "text": "waits for the stage before it"}
    found: dict[str, Any] = {"stage": name, "tasks": 0, "done": 0, "running": [], "failed": [], "missing": 0}
    found |= {"units": 0, "units_done": 0, "unit": parts[0].unit if parts else "tasks", "bytes": 0, "damaged": 0}
    slow: list[tuple[float, str]] = []
    for part in parts:
        _add(found, part, look(part.place), slow)
    found["slowest"] = [{"task": task, "seconds": seconds} for seconds, task in sorted(slow, reverse=True)[:_LISTED]]
    share = found["units_done"] / found["units"] if found["units"] else 0.0
    found["bytes_at_end"] = round(found["bytes"] / share) if share else None
    pace = pace_of(parts) if 0 < found["done"] < found["tasks"] else None
    found["rate"] = pace
    found["seconds_left"] = round((found["units"] - found["units_done"]) / pace) if pace else None
    return {**found, "text": _text(found)}


def _add(found: dict[str, Any], part: Expected, look: "Look", slow: list[tuple[float, str]]) -> None:
    done = part.units.keys() & look.done
    running = list(look.running(part.units))
    failed = [task for task in look.failed if task in part.units]
    found["tasks"] += len(part.units)
    found["done"] += len(done)
    found["running"] += [{"task": task, "who": str(who.process), "since": who.since} for task, who in running]
    found["failed"] += [asdict(failures.read(part.place, task)) for task in failed]
    found["missing"] += len(part.units) - len(done | {task for task, _ in running} | set(failed))
    found["units"] += sum(part.units.values())
    found["units_done"] += sum(part.units[task] for task in done)
    for task in sorted(done):
        try:
            record = look.records.get(task)
        except DamagedObjectError:
            found["damaged"] += 1
            continue
        if record is not None:
            found["bytes"] += sum(item.size for item in record.objects.values())
            seconds = record.facts.get("seconds")
            if isinstance(seconds, int | float):
                slow.append((seconds, task))


def _text(found: Mapping[str, Any]) -> str:
    whole = found["done"] == found["tasks"]
    said = [
        f"{found['done']:,} of {found['tasks']:,} tasks, {found['units_done']:,} of {found['units']:,} {found['unit']}"
    ]
    for what in ("running", "failed"):
        if found[what]:
            said.append(f"{len(found[what]):,} {what}")
    if found["damaged"]:
        said.append(f"{found['damaged']:,} damaged records: run `stillroom verify --repair`")
    if found["bytes"]:
        end = "" if whole or found["bytes_at_end"] is None else f" of about {_size(found['bytes_at_end'])}"
        said.append(f"{_size(found['bytes'])}{end}")
    if found["rate"]:
        said.append(f"{found['rate']:,.0f} {found['unit']}/s, {found['seconds_left'] / 3600:,.1f} h left")
    return "; ".join(said)


def in_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """The same for people: a line for each stage, and below it who is at it and what failed."""
    for stage in status["stages"]:
        yield f"{stage['stage']:8} {stage['text']}"
        for item in stage.get("running", ()):
            yield f"  running {item['task']}: {item['who']}, since {_clock(item['since'])}"
        for item in stage.get("failed", ()):
            log = f"; log {item['log']}" if item["log"] else ""
            who = f"{item['who']}, {_clock(item['when'])}{log}"
            yield f"  failed {item['task']}: {item['error']}: {item['message']} ({who})"
        unfinished = stage["tasks"] is not None and stage["done"] < stage["tasks"]
        for item in stage.get("slowest", ()) if unfinished else ():
            yield f"  slow {item['task']}: {item['seconds']:,.1f} s"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError
