"""The tables of docs/speed.md, from the figures in benchmarks/results.

    python benchmarks/tables.py [--results benchmarks/results]

A benchmark that has not been run yet is left out.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    folder = parser.parse_args().results
    for name, table in TABLES.items():
        path = folder / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            print(f"{name}: {found['machine']}, load {found['load_average']}", *table(found), "", sep="\n")


def loader(found: Found) -> Iterator[str]:
    """Of each size of photos, by one thread and by the most there are."""
    most = max(row["threads"] for row in found["rows"])
    yield from _head("photos", "", "views/s, 1 thread or worker", f"{most}", "CPU ms", f"of the limit, {most}")
    ones = {(row["photos"], row["what"]): row for row in found["rows"] if row["threads"] == 1}
    for row in found["rows"]:
        if row["threads"] == most:
            one = ones[row["photos"], row["what"]]
            rates = (_rate(item) for item in (one, row))
            yield _line(row["photos"], row["what"], *rates, f"{row['cpu_ms']:.2f}", _ratio(row["of_the_limit"]))


def replay_tax(found: Found) -> Iterator[str]:
    yield from _head("student", "batches", "views/s", "of labels", "of ready batches")
    for row in found["rows"]:
        yield _line(_model(row["student"]), row["what"], _rate(row), _ratio(row["of_labels"]), _ratio(row["of_ready"]))


def teacher_stage(found: Found) -> Iterator[str]:
    yield from _head("teacher", "views to a decode", "stage, views/s", "bare", "stage of bare")
    bare = {_key(row): row for row in found["rows"] if "bare" in row["what"]}
    for row in found["rows"]:
        if "bare" not in row["what"]:
            rates = (_number(item["views_per_second"], 100) for item in (row, bare[_key(row)]))
            yield _line(_model(row["teacher"]), row["views_to_a_decode"], *rates, _ratio(row["of_bare"]))


def online(found: Found) -> Iterator[str]:
    yield from _head(
        "teacher", "its cost", "students", "online, s", "cache, s", "students from it, s", "times faster", "cache there"
    )
    for row in found["rows"]:
        seconds = (f"{row[name]:.1f}" for name in ("online_s", "cache_s", "students_s"))
        once = f"{row['times_faster_once_there']:.1f}"
        yield _line(
            _model(row["teacher"]), f"{row['its_cost']:g}", row["students"], *seconds, _ratio(row["times_faster"]), once
        )


def cache_rows(found: Found) -> Iterator[str]:
    yield from _head("codec", "written, rows/s", "first reading", "second")
    for codec in dict.fromkeys(row["codec"] for row in found["rows"]):
        rates = {row["what"]: f"{row['rows_per_second']:,.0f}" for row in found["rows"] if row["codec"] == codec}
        first = rates.get("first reading", rates.get("reading", ""))
        yield _line(f"`{codec}`", rates["write"], first, rates.get("second reading", ""))


def scale(found: Found) -> Iterator[str]:
    """Two workers against one process; the books are in docs/cluster.md by hand."""
    yield from _head("", "views/s, median", "rounds", "two workers are times this")
    workers = found.get("workers", {"views_per_second": {}})
    for arm, rates in workers["views_per_second"].items():
        times = workers["two_workers_times"].get(arm)
        each = ", ".join(f"{rate:.0f}" for rate in rates)
        yield _line(
            arm, f"{workers['median_views_per_second'][arm]:.0f}", each, "" if times is None else f"{times:.2f}"
        )


TABLES: Mapping[str, Callable[[Found], Iterator[str]]] = {
    made.__name__: made for made in (loader, replay_tax, teacher_stage, online, cache_rows, scale)
}


def _head(*names: str) -> Sequence[str]:
    return _line(*names), _line(*["---"] * len(names))


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _rate(row: Found) -> str:
    median, lowest, highest = (_number(row[name], 200) for name in ("views_per_second", "lowest", "highest"))
    return f"{median} ({lowest} to {highest})"


def _number(rate: float, whole: int) -> str:
    """Without a decimal from `whole` on."""
    return f"{rate:.0f}" if rate >= whole else f"{rate:.1f}"


def _ratio(found: Found) -> str:
    return f"{found['median']:.2f} ({found['lowest']:.2f} to {found['highest']:.2f})"


def _model(name: str) -> str:
    return name.partition(":")[2].replace("@", " at ")


def _key(row: Found) -> tuple[str, int]:
    return row["teacher"], row["views_to_a_decode"]


if __name__ == "__main__":
    main()
