"""Bytes per view against KL, for every logit codec; and rows per second on one core.

    python benchmarks/codecs.py                                       # real and synthetic logits → results/codecs.*
    python benchmarks/codecs.py --fit A.npy --measure B.npy --json    # your own: [n, classes] each, a line per setting

Real logits: `--data`, or the folder `logits` of STILLROOM_TEST_DATA; fitted on one half of the photos, measured on the
other. Bytes are what Zarr writes.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import material
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numba
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from stillroom.storage.codecs.registry import LogitCodec, TransformModel, fidelity, fit, logit_codec
from stillroom.storage.codecs.rows.base import RowCodec

TEMPERATURES = (1, 2, 5, 10)
RESULTS = Path(__file__).parent / "results"
CHUNK_BYTES = 16 << 20
# What a view costs beside its logits: a 16-bit digest, its share of the sample's 64-bit seed (30 views), and of the
# array's metadata with the model in it (a cache of a million views).
DIGEST, SEED, VIEWS = 2.0, 8 / 30, 1_000_000
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Set:
    """Logits to fit on and to measure on; groups are the photos' numbers."""

    name: str
    fit: Rows
    measure: Rows
    groups: NDArray[np.int64] | None
    note: str


@dataclass(frozen=True)
class Line:
    """One codec and setting on one set. Bytes per row are those of the Zarr chunks, shard index and all."""

    set: str
    codec: str
    setting: str
    bytes_per_row: float
    bytes_per_view: float
    model_bytes: int
    kl: dict[str, float]
    p99: dict[str, float]
    top1: float
    encode_rows_per_s: float
    decode_rows_per_s: float
    axes: int
    fit_s: float


def real_sets(folder: Path) -> Iterator[Set]:
    """Both halves of the photos, two views each."""
    for name in ("plain", "mixed"):
        views = [np.load(folder / f"{name}{view}.npy").astype(np.float32) for view in (0, 1)]
        half = len(views[0]) // 2
        groups = np.tile(np.arange(half), 2)
        first = np.concatenate([v[:half] for v in views])
        yield Set(name, first, np.concatenate([v[half:] for v in views]), groups, "real, 200 classes, 48 % top-1")


def synthetic_set(classes: int, rows: int, measure: int, spread: float) -> Set:
    """Made logits: see `material.logits`."""
    size = rows + measure
    out = material.logits(classes, size, spread)
    few = out[:200].astype(np.float64)
    p = np.exp(few - few.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = float(-(p * np.log(p + 1e-300)).sum(axis=1).mean())
    note = (
        f"synthetic, {classes} classes, deviations {spread}·√C·(1 + j/4)^-1.2 on 300 axes, row scale exp(0.35 n); "
        f"mean entropy {entropy:.2f} nats, mean top probability {p.max(axis=1).mean():.3f}"
    )
    return Set(f"synthetic {classes}", out[:rows], out[rows:], None, note)


def stored(codec: LogitCodec, rows: Rows) -> tuple[int, int, Rows, float, float]:
    """Chunk bytes, metadata bytes, decoded rows, encode and decode seconds, through a sharded Zarr array."""
    classes = rows.shape[1]
    slots = max(1, min(1000, CHUNK_BYTES // (4 * classes), len(rows)))
    views = -(-len(rows) // slots)
    padded = np.full((views * slots, classes), np.nan, np.float32)
    padded[: len(rows)] = rows
    store = MemoryStore()
    shape = (1, views, slots, classes)
    array = zarr.create_array(
        store,
        shape=shape,
        shards=shape,
        chunks=(1, 1, slots, classes),
        dtype=codec.dtype,
        serializer=codec.serializer,
        compressors=codec.compressors,
        fill_value=float("nan"),
        dimension_names=["shard", "view", "slot", "class"],
    )
    array[:] = padded.reshape(shape)
    decoded = np.asarray(array[:], np.float32)
    encode_s, decode_s = speed(codec.serializer, rows, slots)
    sizes = {key: len(value.to_bytes()) for key, value in store._store_dict.items()}
    chunks = sum(size for key, size in sizes.items() if not key.endswith("zarr.json"))
    return chunks, sizes["zarr.json"], decoded.reshape(-1, classes)[: len(rows)], encode_s, decode_s


def speed(serializer: Any, rows: Rows, slots: int) -> tuple[float, float]:
    """CPU seconds to encode and decode all rows, chunk by chunk, by the codec alone; 0 for Zarr's own codecs."""
    if not isinstance(serializer, RowCodec):
        return 0.0, 0.0
    parts = [np.ascontiguousarray(rows[at : at + slots]) for at in range(0, len(rows), slots)]
    start = time.process_time()
    chunks = [serializer.encode_rows(part) for part in parts]
    middle = time.process_time()
    for part, chunk in zip(parts, chunks, strict=True):
        serializer.decode_rows(chunk, *part.shape)
    return middle - start, time.process_time() - middle


def measure(data: Set, name: str, setting: str, model: TransformModel | None = None, fit_s: float = 0.0) -> Line:
    """One codec on the set's measured half."""
    codec = logit_codec(name, model)
    size, metadata, decoded, encode_s, decode_s = stored(codec, data.measure)
    found = fidelity(data.measure, decoded, TEMPERATURES)
    n = len(data.measure)
    return Line(
        set=data.name,
        codec=name.partition(":")[0],
        setting=setting,
        bytes_per_row=round(size / n, 3),
        bytes_per_view=round(size / n + DIGEST + SEED + metadata / VIEWS, 3),
        model_bytes=metadata if model else 0,
        kl={str(f.temperature): round(f.mean, 5) for f in found},
        p99={str(f.temperature): round(f.p99, 5) for f in found},
        top1=round(found[0].top1, 4),
        encode_rows_per_s=round(n / encode_s) if encode_s else 0,
        decode_rows_per_s=round(n / decode_s) if decode_s else 0,
        axes=model.axis_count if model else 0,
        fit_s=round(fit_s, 1),
    )


def transform(data: Set, temperatures: tuple[int, ...], max_kl: float, label: str = "") -> Line:
    """The transform at a bound."""
    start = time.perf_counter()
    model = fit(data.fit, temperatures, max_kl, data.groups)
    took = time.perf_counter() - start
    at = ",".join(map(str, temperatures))
    return measure(data, "transform", f"KL<={max_kl:.4g} at T={at}{label}", model, took)


def all_lines(data: Set, bounds: tuple[float, ...], alone: tuple[float, ...]) -> Iterator[Line]:
    """Every codec and setting on one set; the transform also at the KL that top-10 has at T = 1."""
    for name in ("float32", "float16", "int8", "topk:100", "sqrtp:0.05", "sqrtp:0.1"):
        yield measure(data, name, name.partition(":")[2])
    ten = measure(data, "topk:10", "10")
    yield ten
    for bound in bounds:
        yield transform(data, TEMPERATURES, bound)
    for bound in alone:
        yield transform(data, (1,), bound)
    if ten.kl["1.0"] > 0 and data.groups is not None:
        yield transform(data, (1,), ten.kl["1.0"], ", top-10's KL")


def gaussian_bound(data: Set, kl: float) -> float:
    """Bytes per row below which no code of independent Gaussians of the measured spectrum gets: reverse water-filling.

    At high temperature KL times T² is the squared error over twice the classes. The axes are the fitted half's.
    """
    x = data.fit.astype(np.float64)
    x -= x.mean(axis=1, keepdims=True)
    y = data.measure.astype(np.float64)
    y -= y.mean(axis=1, keepdims=True)
    y -= x.mean(axis=0)
    x -= x.mean(axis=0)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    inside = y @ axes.T
    variance = (inside**2).mean(axis=0)
    outside = (y**2).sum() / len(y) - variance.sum()
    allowed = 2 * data.fit.shape[1] * kl - outside
    low, high = 1e-12, float(variance.max())
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if np.minimum(variance, middle).sum() > allowed else (middle, high)
    return float(0.5 * np.log2(np.maximum(variance / low, 1)).sum() / 8)


def draw(lines: list[Line], notes: dict[str, str]) -> None:
    """Bytes per view against KL: a row of panels per set, a panel per temperature."""
    sets = list(notes)
    figure, panels = plt.subplots(len(sets), 4, figsize=(15, 3.6 * len(sets)), squeeze=False, sharey="row")
    styles = {"transform": "o-", "topk": "s", "sqrtp": "^", "int8": "D", "float16": "v", "float32": "x"}
    for row, name in enumerate(sets):
        for column, temperature in enumerate(TEMPERATURES):
            panel = panels[row][column]
            for codec, style in styles.items():
                mine = [line for line in lines if line.set == name and line.codec == codec]
                groups: dict[str, list[Line]] = {}
                for line in mine:
                    alone = codec == "transform" and "T=1,2" not in line.setting
                    groups.setdefault(codec + (" (fitted at T=1)" if alone else ""), []).append(line)
                for label, members in groups.items():
                    points = sorted((x.bytes_per_view, max(x.kl[f"{temperature}.0"], 1e-6)) for x in members)
                    panel.plot(*zip(*points, strict=True), style, ms=4, label=label)
                for line in mine if codec == "topk" else []:
                    xy = (line.bytes_per_view, max(line.kl[f"{temperature}.0"], 1e-6))
                    panel.annotate(f"TinyViT top-{line.setting}", xy, fontsize=6)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_title(f"{name}, T = {temperature}", fontsize=9)
            panel.grid(alpha=0.3)
            if row == len(sets) - 1:
                panel.set_xlabel("bytes per view, all of them")
            if column == 0:
                panel.set_ylabel("KL · T² (nats)")
    panels[0][0].legend(fontsize=6)
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "stillroom"
    figure.savefig(RESULTS / "codecs.svg", metadata={"Date": None})


def table(lines: list[Line]) -> str:
    """Markdown."""
    out = [
        "| set | codec | setting | bytes/row | bytes/view | KL T=1 | T=2 | T=5 | T=10 | top-1 | encode/s | decode/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for x in lines:
        kls = " | ".join(f"{x.kl[f'{t}.0']:.4f}" for t in TEMPERATURES)
        out.append(
            f"| {x.set} | {x.codec} | {x.setting} | {x.bytes_per_row:.1f} | {x.bytes_per_view:.1f} | {kls} | "
            f"{x.top1:.3f} | {x.encode_rows_per_s:,} | {x.decode_rows_per_s:,} |"
        )
    return "\n".join(out)


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    return {
        "machine": f"{os.cpu_count()} cores, no GPU; one core used",
        "processor": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "zarr": zarr.__version__,
    }


def save(lines: list[Line], notes: dict[str, str], bounds: dict[str, Any]) -> None:
    """results/codecs.json, as far as it goes."""
    RESULTS.mkdir(exist_ok=True)
    report = {**machine(), "sets": notes, "gaussian_bound_bytes": bounds, "lines": [asdict(x) for x in lines]}
    (RESULTS / "codecs.json").write_text(json.dumps(report, indent=1) + "\n")


def main() -> int:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = os.environ.get("STILLROOM_TEST_DATA")
    logits = Path(named) / "logits" if named else None
    parser.add_argument("--data", type=Path, default=logits, help="folder of real logits")
    parser.add_argument("--fit", type=Path, help="float [n, classes] .npy to fit on")
    parser.add_argument("--measure", type=Path, help="float [n, classes] .npy to measure on")
    parser.add_argument("--json", action="store_true", help="a JSON line per codec and setting, nothing written")
    parser.add_argument("--synthetic", type=int, nargs="*", default=[1000, 21841], help="class counts to synthesise")
    options = parser.parse_args()
    if (options.fit is None) != (options.measure is None):
        parser.error("--fit and --measure go together")
    lines: list[Line] = []
    notes: dict[str, str] = {}
    bounds: dict[str, Any] = {}

    def run(data: Set, at: tuple[float, ...], alone: tuple[float, ...]) -> None:
        notes[data.name] = data.note
        for line in all_lines(data, at, alone):
            lines.append(line)
            if options.json:
                print(json.dumps(asdict(line)), flush=True)
            else:
                if not options.fit:
                    save(lines, notes, bounds)
                print(f"{line.set}: {line.codec} {line.setting}: {line.bytes_per_row} B/row, KL {line.kl}", flush=True)

    if options.fit:
        first, second = (np.load(path).astype(np.float32) for path in (options.fit, options.measure))
        run(Set(options.measure.stem, first, second, None, "given"), (0.3, 0.1, 0.05, 0.02, 0.005), (0.3, 0.1, 0.02))
        if not options.json:
            print(table(lines))
        return 0
    if options.data:
        for data in real_sets(options.data):
            run(data, (0.3, 0.1, 0.05, 0.02, 0.005), (0.1,))
            bounds[data.name] = {str(kl): round(gaussian_bound(data, kl), 2) for kl in (0.3, 0.1, 0.05, 0.02, 0.005)}
    else:
        print("no real logits: give --data, or --fit and --measure, or set STILLROOM_TEST_DATA", file=sys.stderr)
    for classes in options.synthetic:
        big = classes > 5000
        data = synthetic_set(classes, 1200 if big else 3000, 732 if big else 6000, 1.2 if big else 1.0)
        run(data, (0.02,), ())
    if not options.json:
        print(table(lines))
        save(lines, notes, bounds)
        draw(lines, notes)
        print("Gaussian rate-distortion bound, bytes per row by KL at high T:", bounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
