"""Installed as a wheel, it works from a directory that has folders of the same names as its floors."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network by the tools of this environment."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = target.glob("*.whl")
    return path


def test_the_wheel_holds_nothing_outside_its_own_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"stillroom", wheel.name.split("-py3")[0] + ".dist-info"}
    assert {"stillroom/py.typed", "stillroom/stages/report/report.html", "stillroom/storage/cache/cache.py"} <= set(
        names
    )


@pytest.mark.slow
def test_it_runs_beside_folders_of_the_same_names(wheel, tmp_path):
    site, work = tmp_path / "site", tmp_path / "work"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    for name in ("pipeline", "stages", "storage"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise ImportError('this is the user’s own package')\n")
    script = (
        "import json, sys; sys.path[0:0] = ['', sys.argv[1]]; import stillroom; "
        "import stillroom.pipeline.replay.loader as replay; "
        "print(json.dumps([stillroom.__file__, replay.__file__, stillroom.ReplayLoader.__module__]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(site)], cwd=work, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    package, module, home = json.loads(ran.stdout)
    assert Path(package).is_relative_to(site)
    assert Path(module).is_relative_to(site)
    assert home == "stillroom.pipeline.replay.loader"
    command = subprocess.run(
        [sys.executable, str(site / "bin" / "stillroom"), "--help"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": f"{site}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert command.returncode == 0, command.stderr
    assert "Usage: stillroom COMMAND" in command.stdout
    (about,) = site.glob("*.dist-info")
    assert "stillroom.transform" in (about / "entry_points.txt").read_text()
