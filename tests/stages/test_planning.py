"""Who only plans the teacher's work, or counts it, brings neither torch nor DALI along: half a gigabyte and seconds."""

import json
import subprocess
import sys

import pytest

from stillroom.pipeline.render import backend

_PLANNED = """
import json, sys
from stillroom.pipeline.config.config import parse_config
from stillroom.stages.run.registry import stage_named
config = parse_config(json.loads(sys.argv[1]))
stage = stage_named("teacher")
tasks = stage.tasks(config)
check = stage.done(config)
done = sum(map(check, tasks))
print(json.dumps([len(tasks), done, [name for name in ("torch", "nvidia.dali") if name in sys.modules]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["float16", "transform"])
def test_the_teachers_tasks_are_planned_and_counted_without_torch(make_config, run_stages, codec):
    settings = {"cache": {"codec": codec, "plain": True}, "render": {"backend": "dali-cpu"}, "data": {"holdout": 0.2}}
    config = make_config(settings)
    run_stages(config, "ingest", "seeds", "teacher")
    command = [sys.executable, "-c", _PLANNED, json.dumps(config.model_dump(mode="json"))]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    tasks, done, brought = json.loads(ended.stdout)
    assert tasks == done > 4
    assert brought == []


def test_without_a_driver_the_backend_is_known_without_torch():
    said = "import sys; from stillroom.pipeline.render import backend; backend._DRIVER = 'none.so'; "
    said += "print(backend.default_backend(), 'torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True)
    assert ended.stdout.split() == ["integer-cpu", "False"]


@pytest.mark.parametrize("there", [True, False])
def test_with_a_driver_torch_says_whether_there_is_a_gpu(monkeypatch, there):
    monkeypatch.setattr(backend, "_DRIVER", "libc.so.6")
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert backend.default_backend() == ("dali-gpu" if there else "integer-cpu")
