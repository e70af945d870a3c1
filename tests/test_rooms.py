"""The house: imports go one way, rooms are small, and each says what it is for with names that are there."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("storage", "pipeline", "stages")
ROOMS = sorted({path.parent for floor in FLOORS for path in (ROOT / floor).rglob("*.py")})
MOST = 12


def lint_imports(folder):
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path):
    """The source alone, to plant an import in."""
    for name in (*FLOORS, "stillroom"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        (None, None),
        ("storage/ledger/record.py", "stillroom.pipeline.render.backend"),
        ("storage/objects/retry.py", "stillroom.storage.cache.cache"),
        ("pipeline/render/request.py", "stillroom.pipeline.replay.batch"),
        ("stages/teacher/pilot.py", "stillroom.stages.verify.findings"),
    ],
    ids=["as it is", "a floor up", "a room up in storage", "a room up in pipeline", "a room up in stages"],
)
def test_an_import_that_goes_up_is_refused(copied, module, imported):
    if module is not None:
        path = copied / module
        path.write_text(path.read_text() + f"\nimport {imported}\n")
    found = lint_imports(copied)
    assert (found.returncode == 0) == (module is None), found.stdout
    if module is not None:
        assert f"{imported} (l." in found.stdout or imported in found.stdout


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_is_small_and_says_what_it_is_for(room):
    modules = [path for path in room.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert text, "a room's __init__ says what the room is for"
    if room.parent == ROOT:
        for folder in (path for path in room.iterdir() if (path / "__init__.py").exists()):
            assert re.search(rf"^{folder.name}\s", text, flags=re.MULTILINE), f"{folder.name} is not in the list"
    else:
        named = re.findall(r"`(\w+)`", text.partition("Public names:")[2])
        assert named
        assert set(named) <= names_in(room), set(named) - names_in(room)


def names_in(room):
    found = {path.stem for path in room.iterdir()}
    for path in room.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found
