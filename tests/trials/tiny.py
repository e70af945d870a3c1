"""A tiny whole run, a stage at a time, each in a process that can be killed; and what must be equal after it.

The processes are forked from a server that has imported all but started no thread, so each costs little.
"""

import io
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stillroom.pipeline.images.verdict import Accepted
from stillroom.storage.ledger.ledger import FOLDER, Ledger
from stillroom.storage.ledger.record import LEDGER_NODE
from stillroom.storage.objects.base import temporary_of
from stillroom.storage.objects.local import LocalPlace
from trials.watched import Call, Note, Plan, install, read_calls

STAGES = ("ingest", "seeds", "teacher", "grow", "verify", "student", "report")
"""In order. "grow" is the teacher's stage once more, with more views: it replaces metadata in place."""
PLACES = ("data", "eval", "cache", "students/student", "")
_WARM = (*(f"stillroom.stages.{name}" for name in ("cli", "gc", *STAGES) if name != "grow"), "timm")
_PER_CLASS = 5
_CLASSES = ("apple", "pear", "quince")

_CONFIG = """
[run]
dir = "{run}"
[data]
train = "{images}"
holdout = 0.3
samples_per_shard = {samples}
[views]
count = {views}
views_per_block = 2
area = [0.25, 1.0]
[render]
threads = 1
backend = "dali-cpu"
[[teacher]]
name = "t"
model = "timm:test_resnet"
weights = "{weights}"
size = 16
batch_size = 16
[cache]
canaries = 1
[verify]
share = 0.3
[student]
model = "timm:test_resnet"
size = 16
epochs = {epochs}
batch_size = 5
eval_epochs = {eval_epochs}
checkpoint_minutes = {minutes}
"""


@dataclass(frozen=True)
class Tiny:
    """A run in a folder, always the same one: a config's path is in what is made from it.

    Attributes:
        folder: holds images, weights, configs, the run, and copies of it at each stage.
    """

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def configure(
        self, name: str, *, views: int, samples: int = 6, epochs: int = 2, eval_epochs: int = 1, minutes: float = 0.0
    ) -> Path:
        """Write a config; `minutes` lie between two checkpoints."""
        path = self.folder / f"{name}.toml"
        text = _CONFIG.format(
            run=self.run,
            images=self.folder / "images",
            weights=self.folder / "teacher.safetensors",
            views=views,
            samples=samples,
            epochs=epochs,
            eval_epochs=eval_epochs,
            minutes=minutes,
        )
        path.write_text(text)
        return path

    def command(self, stage: str) -> list[str]:
        """The command line's arguments for a stage."""
        name = "teacher" if stage == "grow" else stage
        views = "few" if stage in ("ingest", "seeds", "teacher") else "all"
        return [name, str(self.folder / f"{views}.toml")]

    def before(self, stage: str) -> Path:
        """Where a copy of the run as it is at the beginning of a stage lies; "end" for the finished one."""
        return self.folder / f"before-{stage}"

    def reset(self, stage: str) -> None:
        """Go back to the beginning of a stage."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.before(stage), self.run)

    def process(self, commands: Sequence[Sequence[str]], plan: Plan = None, log: str = "log") -> BaseProcess:
        """A process that runs commands one after another, up to the first that fails; not started yet."""
        process: BaseProcess = server().Process(target=_run, args=(list(commands), plan, str(self.folder / log)))
        return process

    def do(self, *commands: Sequence[str], plan: Plan = None) -> int:
        """Run commands in a process; its exit status, or minus the signal that killed it."""
        process = self.process(commands, plan)
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    def calls(self, stage: str) -> list[Call]:
        """What a stage does to the disk; noted once."""
        log = self.folder / f"calls-{stage}"
        if not log.exists():
            self.reset(stage)
            assert self.do(self.command(stage), plan=Note(str(log))) == 0, self.log()
        return read_calls(log)

    def log(self) -> str:
        """What the last process printed."""
        return (self.folder / "log").read_text()


def server() -> Any:
    """Where processes are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_WARM))
    return context


def make_inputs(folder: Path) -> Tiny:
    """Write images and weights, once."""
    tiny = Tiny(folder)
    if not (folder / "teacher.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = server().Process(target=_write_inputs, args=(str(folder),))
        made.start()
        made.join()
        assert made.exitcode == 0
    return tiny


def make_tiny(folder: Path) -> Tiny:
    """The inputs, and an undisturbed run with a copy at each stage; once."""
    tiny = make_inputs(folder)
    if not tiny.before("end").exists():
        tiny.configure("few", views=2)
        tiny.configure("all", views=4)
        shutil.rmtree(tiny.run, ignore_errors=True)
        tiny.run.mkdir()
        for stage in STAGES:
            shutil.copytree(tiny.run, tiny.before(stage))
            assert tiny.do(tiny.command(stage)) == 0, tiny.log()
        shutil.copytree(tiny.run, tiny.before("end"))
    return tiny


def _write_inputs(folder: str) -> None:
    import safetensors.torch
    import torch

    from stillroom.pipeline.models.factory import build_model

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    for name in _CLASSES:
        for number in range(_PER_CLASS):
            path = Path(folder) / "images" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
            coarse.resize((20 + number, 24), Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)
    torch.manual_seed(7)
    model = build_model("timm:test_resnet", len(_CLASSES))
    with torch.no_grad():
        model.get_classifier().weight.mul_(20.0)
    data = safetensors.torch.save(model.state_dict(), {"classes": json.dumps(_CLASSES)})
    (Path(folder) / "teacher.safetensors").write_bytes(data)


def _run(commands: Sequence[Sequence[str]], plan: Plan, log: str) -> None:
    import torch

    from stillroom.stages.cli.main import main
    from stillroom.stages.ingest import shard

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.set_num_threads(1)  # more are not deterministic
    shard.examine_apart = examine_headers
    install(plan)
    for command in commands:
        try:
            main(command)
        except SystemExit as status:
            if status.code:
                sys.exit(status.code)


def examine_headers(images: Sequence[Any], max_pixels: int) -> list[Accepted]:
    """Judging images takes seconds in a new process, and writes nothing."""
    sizes = [Image.open(io.BytesIO(image.tobytes())).size for image in images]
    return [Accepted(height, width) for width, height in sizes]


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, TensorBoard's event files apart: they are nobody's record, and name their process."""
    found = (path for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def differences(wanted: Path, found: Path) -> list[str]:
    """What a run has otherwise than another, but for how long things took."""
    one, other = files(wanted), files(found)
    problems = [f"{name} is missing" for name in sorted(one.keys() - other.keys())]
    problems += [f"{name} is left over" for name in sorted(other.keys() - one.keys())]
    same = sorted(one.keys() & other.keys())
    return problems + [f"{name} differs" for name in same if _timeless(name, one[name]) != _timeless(name, other[name])]


def false_records(run: Path) -> list[str]:
    """Records that list what is not there, or not as they say."""
    problems = []
    for name in PLACES:
        place = LocalPlace(run / name if name else run)
        records = list(Ledger(place).records())
        for record in records:
            for item, written in record.objects.items():
                # Metadata is replaced as a cache grows; any form is good that a layout lists.
                layouts = [other for other in records if "/layout/" in other.task] if "/layout/" in record.task else []
                forms = [other.objects[item] for other in layouts if item in other.objects] or [written]
                if not any(form.matches(place, item) for form in forms):
                    problems.append(f"{name}: {record.task} lists {item}, which is not there as it says")
    return problems


def unlisted(run: Path) -> list[str]:
    """Files that are no records, and that no record lists; temporary files are among them."""
    listed = set()
    for name in PLACES:
        place = LocalPlace(run / name if name else run)
        folder = f"{name}/" if name else ""
        for record in Ledger(place).records():
            listed |= {f"{folder}{item}" for item in record.objects} | {f"{folder}{Ledger(place).name(record.task)}"}
    return sorted(files(run).keys() - listed)


def temporaries(run: Path) -> list[str]:
    return [name for name in files(run) if temporary_of(name) is not None]


def _timeless(name: str, data: bytes) -> Any:
    """What of a file must be equal: all of it, but for seconds, and for digests of what contains them."""
    if f"{FOLDER}/" in name and not name.endswith(LEDGER_NODE):
        record = json.loads(data)
        objects = {
            item: None if item in ("result.json", "report.html") else at for item, at in record["objects"].items()
        }
        derived = record["task"] in ("verified", "report")
        return record["task"], None if derived else record["fingerprint"], objects
    if name.endswith("result.json"):
        return {key: value for key, value in json.loads(data).items() if key != "seconds"}
    return name == "report.html" or data
