"""The benchmarks run to their end, in settings that measure nothing: they reach into what they measure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = {
    "teacher_stage": ["--teachers", "timm:test_resnet@32:200", "--rounds", "1"],
    "online": [
        "--teachers",
        "timm:test_resnet@32",
        "--size",
        "32",
        "--samples",
        "40",
        "--epochs",
        "1",
        "--rounds",
        "1",
    ],
    "cache_rows": ["--classes", "20", "--rounds", "1"],
    "gil": ["--samples", "40", "--size", "32", "--batch", "8", "--rounds", "1"],
    "operations": ["--only", "posterize", "--rounds", "1", "--size", "32"],
    "growth": ["--parts", "plans", "--largest", "1000", "--out", "."],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_ends_and_leaves_its_figures(name, tmp_path):
    environment = os.environ | {"STILLROOM_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / f"benchmarks/{name}.py"), *TINY[name]]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads((tmp_path / f"{name}.json").read_text())
    assert "|" in ended.stdout
