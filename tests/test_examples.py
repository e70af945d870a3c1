"""The examples train a student from a cache, in less than 60 lines each, and go on where they were stopped."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import stillroom
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.run.registry import stage_named

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("plain_torch", "timm_trainer", "lightning_module")
BATCH = 7  # of 24 samples: three in an epoch, so that the 20th step, where all save themselves, is within one
STEPS, STOPPED, SAVED = 44, 27, 20

# Lightning and what it imports warn of each other's plans.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning", "ignore::Warning:torch", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def cached(run_config, tmp_path_factory):
    config = run_config(tmp_path_factory.mktemp("run"), data={"samples_per_shard": 6})
    for name in ("ingest", "seeds", "teacher"):
        execute(stage_named(name), config, InProcess(), NoProgress())
    return [str(Path(config.run.dir) / name) for name in ("cache", "data")]


class StoppedError(Exception):
    """In place of a signal."""


class Watch:
    """What an example was given, and its losses, batch by batch.

    Args:
        stop: the number of batches after which the next one is never given.
    """

    def __init__(self, monkeypatch, stop=None):
        self.uids, self.losses = [], []
        watch = self

        class Watched(stillroom.ReplayLoader):
            def epoch(self, epoch, start=0):
                for batch in super().epoch(epoch, start):
                    if len(watch.uids) == stop:
                        raise StoppedError
                    watch.uids.append(batch.uids)
                    yield batch

        def kl_divergence(*arguments):
            losses = measured(*arguments)
            self.losses.append(losses.mean().item())
            return losses

        measured = stillroom.kl_divergence
        monkeypatch.setattr(stillroom, "ReplayLoader", Watched)
        monkeypatch.setattr(stillroom, "kl_divergence", kl_divergence)


def run(name, cached, out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments(cached, out, STEPS)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def arguments(cached, out, steps, batch=BATCH):
    return [*cached, "--model=test_resnet", f"--batch-size={batch}", f"--steps={steps}", f"--out={out}"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_shows_the_three_lines(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) < 60
    for line in ("stillroom.open(", "stillroom.ReplayLoader(", "stillroom.kl_divergence("):
        assert text.count(line) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_goes_on_where_it_was_stopped(name, cached, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        whole = Watch(patch)
        run(name, cached, tmp_path / "whole")
    assert len(whole.uids) == len(whole.losses) == STEPS
    assert np.mean(whole.losses[-5:]) < 0.5 * np.mean(whole.losses[:5])

    with monkeypatch.context() as patch:
        first = Watch(patch, stop=STOPPED)
        with pytest.raises(StoppedError):
            run(name, cached, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        rest = Watch(patch)
        run(name, cached, tmp_path / "stopped")
    assert_same(first.uids, whole.uids[:STOPPED])
    assert_same(rest.uids, whole.uids[SAVED:])
    assert first.losses + rest.losses == whole.losses[:STOPPED] + whole.losses[SAVED:]


@pytest.mark.slow
def test_what_two_ranks_began_one_goes_on_with(cached, tmp_path):
    def said(*command):
        told = subprocess.run(
            [sys.executable, *command, *arguments(cached, tmp_path / "two.pt", steps[0], batch=12)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert told.returncode == 0, told.stderr
        return [line.split()[1::2] for line in told.stdout.splitlines()]

    example = str(EXAMPLES / "plain_torch.py")
    steps = [25]
    together = said("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", example)
    assert [step for step, _ in together] == ["20", "25"]
    steps = [40]
    ((step, loss),) = said(example)
    assert step == "40"
    assert float(loss) < float(together[0][1])
    loader = torch.load(tmp_path / "two.pt", weights_only=True)["loader"]
    assert (loader["epoch"], loader["step"]) == (20, 0), "two steps of twelve in an epoch of 24"


def assert_same(one, other):
    assert len(one) == len(other)
    for mine, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, its)
