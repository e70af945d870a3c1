"""Trials of faults: kills, failing writes, damage, wrong shards, many writers, signals, hostile images; in full.

    python benchmarks/faults.py                    # all of them; an hour or two on two cores
    python benchmarks/faults.py --only writers flips --share 0.1

Prints a table of what was seen, and writes it with the machine to benchmarks/results/faults.json. `make
test` runs a smaller share of the same trials (tests/trials). Exit status 1 where a figure was not reached.
With STILLROOM_TEST_DATA, the hostile images are those of that folder, too.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from trials import bitflips, crashes, failing, fingerprints, hostile, planted, signals, touched, writers, wrong_shards
from trials.table import Row

Trial = Callable[[float], Row | Sequence[Row]]


def _share(whole: int, share: float) -> int:
    return max(1, round(whole * share))


TRIALS: dict[str, Trial] = {
    "crashes": lambda share: crashes.measure(None if share == 1 else _share(200, share)),
    "failing": lambda share: failing.measure(None if share == 1 else _share(200, share)),
    "flips": lambda share: bitflips.measure(_share(1000, share)),
    "touched": lambda share: touched.measure(None if share == 1 else _share(200, share)),
    "shards": lambda _: wrong_shards.measure(),
    "writers": lambda share: writers.measure(_share(100, share)),
    "signals": lambda share: signals.measure(None if share == 1 else 2),
    "fingerprints": lambda _: fingerprints.measure(),
    "hostile": lambda share: hostile.measure(_share(500, share), 0, hostile.real_corpus()),
    "planted": lambda share: planted.measure(None if share == 1 else _share(30, share)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--share", type=float, default=1.0, help="of the full counts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    print("| test | figure | seen | s |\n|---|---|---|---|", flush=True)
    for name in arguments.only:
        started = time.perf_counter()
        found = TRIALS[name](arguments.share)
        seconds = time.perf_counter() - started
        for row in [found] if isinstance(found, Row) else found:
            notes = f" ({row.notes})" if row.notes else ""
            bad = "" if row.ok else " **missed**"
            print(f"| {row.test} | {row.figure} | {row.seen} of {row.of}{bad}{notes} | {seconds:.0f} |", flush=True)
            rows.append({**asdict(row), "ok": row.ok, "trial": name, "seconds": round(seconds, 1)})
    machine = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "share": arguments.share,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "faults.json"
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
