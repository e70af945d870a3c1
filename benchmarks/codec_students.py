"""Students from the transform codec against students from float32: the same teacher, views and seeds.

    python benchmarks/codec_students.py                 # scikit-learn's digits; about four minutes on two CPU cores

A teacher is made from labels, its logits are cached once as float32 and once by each `--codecs`, and a student is
trained from each cache with each seed. What a codec costs a student is the difference of the means, to be held against
the spread of the float32 students over their seeds. Results go to results/codec_students.json.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillroom.pipeline.config.config import Config, parse_config
from stillroom.stages.ingest.demo_digits import write_digits
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import make_progress
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache.cache import Cache
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.writers.loss_summary import join_losses

RESULTS = Path(__file__).parent / "results" / "codec_students.json"
FIGURES = ("top1", "kl")


def run(config: Config, stages: Sequence[str]) -> None:
    """Do stages, here."""
    with make_progress() as progress:
        for name in stages:
            execute(stage_named(name), config, InProcess(), progress)


def tables(folder: Path, images: Path) -> dict[str, Any]:
    """What all runs share."""
    return {
        "run": {"dir": str(folder)},
        "data": {"train": str(images), "holdout": 0.2, "samples_per_shard": 256},
        "views": {"count": 10, "area": [0.25, 1.0], "flip": False},
    }


def make_teacher(folder: Path, images: Path, epochs: int) -> Path:
    """Weights of a teacher that learnt from labels."""
    student = {"target": "labels", "model": "timm:resnet10t", "size": 32, "epochs": epochs, "learning_rate": 2e-3}
    config = parse_config(
        {
            **tables(folder, images),
            "views": {"count": 10, "area": [0.5, 1.0], "flip": False, "mixup": False},
            "student": student,
        }
    )
    run(config, ("ingest", "seeds", "student"))
    return folder / "students" / "student" / "weights.safetensors"


def students(folder: Path, images: Path, weights: Path, codec: str, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of a codec: what its blocks lost, and how the students of all seeds did."""
    common = {"model": "timm:test_resnet", "size": 32, "epochs": options.epochs, "learning_rate": 3e-3}
    config = parse_config(
        {
            **tables(folder / codec.replace(":", "-"), images),
            "teacher": {
                "name": "t",
                "model": "timm:resnet10t",
                "weights": str(weights),
                "size": 32,
                "batch_size": 128,
            },
            "cache": {"codec": codec},
            "student": [
                {"name": f"seed-{seed}", "seed": seed, "temperature": options.temperature, **common}
                for seed in range(options.seeds)
            ],
        }
    )
    run(config, ("ingest", "seeds", "teacher", "student"))
    lost = join_losses(record.facts for record in Cache(config.cache_place).ledger.records("teachers/t/blocks"))
    assert lost is not None
    found: list[Mapping[str, Any]] = []
    for student in config.student:
        record = Ledger(config.student_place(student)).get("student")
        assert record is not None
        found.append(record.facts)
    return {
        "codec": codec,
        "bytes_per_view": lost["bytes_per_view"],
        "kl_lost": dict(zip(map(str, lost["temperatures"]), lost["kl_mean"], strict=True)),
        **{name: [facts[name] for facts in found] for name in FIGURES},
    }


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: means, and the spread of each codec's seeds."""
    out = [
        "| codec | bytes/view | top-1, mean (min to max) | KL to the teacher, mean (min to max) |",
        "|---|---|---|---|",
    ]
    for line in lines:
        cells = [f"{np.mean(line[k]):.4f} ({min(line[k]):.4f} to {max(line[k]):.4f})" for k in FIGURES]
        out.append(f"| {line['codec']} | {line['bytes_per_view']:.1f} | {' | '.join(cells)} |")
    return "\n".join(out)


def main() -> int:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="*", default=["transform"], help="beside float32")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--temperature", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codec-students-") as name:
        folder = Path(name)
        write_digits(folder / "images")
        weights = make_teacher(folder / "teacher", folder / "images", epochs=8)
        lines = [students(folder, folder / "images", weights, codec, options) for codec in ("float32", *options.codecs)]
    report = {
        "machine": f"{os.cpu_count()} cores, {'a GPU' if torch.cuda.is_available() else 'no GPU'}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "epochs": options.epochs,
        "temperature": options.temperature,
        "lines": lines,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    print(table(lines))
    plain = lines[0]
    for line in lines[1:]:
        for figure in FIGURES:
            gap = abs(float(np.mean(line[figure]) - np.mean(plain[figure])))
            spread = max(plain[figure]) - min(plain[figure])
            within = "within" if gap <= spread else "outside"
            print(
                f"{line['codec']}: {figure} differs by {gap:.4f}, {within} the spread of float32's seeds, {spread:.4f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
