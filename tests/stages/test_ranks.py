"""Students on several ranks: the same global batches whatever their number, stopped or killed at any step."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch

from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.replay.epoch_order import Order
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.train.trainer import Trainer
from stillroom.stages.student.checkpoint import load_checkpoint
from stillroom.stages.student.metrics import read_metrics
from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import ConfigError
from stillroom.storage.ledger.ledger import Ledger

# Layer norm, no batch statistics: then the number of ranks changes nothing but roundings.
MODEL = "timm:test_convnext"


@pytest.fixture(scope="module")
def cached(make_run):
    """Four data shards or more, so that four ranks divide the lanes."""
    return make_run({"data": {"samples_per_shard": 24}, "cache": {"codec": "float32"}})


def loader_of(config, rank=0, world=1, **options):
    return ReplayLoader(
        Cache(config.cache_place),
        data=str(config.data_place),
        batch_size=32,
        size=32,
        seed=4,
        rank=rank,
        world=world,
        **options,
    )


def by_uid(batches):
    """Images, logits and the rest of a global batch, in the order of uids."""
    uids = np.concatenate([batch.uids for batch in batches])
    order = torch.from_numpy(np.argsort(uids))
    columns = {
        name: torch.cat([getattr(batch, name) for batch in batches])[order]
        for name in ("images", "logits", "labels", "partner_labels", "shares", "views", "sources")
    }
    return np.sort(uids), columns


@pytest.mark.parametrize("world", [2, 4])
def test_global_batches_are_identical_on_any_number_of_ranks(cached, world):
    alone = loader_of(cached)
    ranks = [loader_of(cached, rank, world) for rank in range(world)]
    for epoch in (0, 3):
        shares = [loader.epoch(epoch) for loader in ranks]
        count = 0
        for whole in alone.epoch(epoch):
            parts = [next(share) for share in shares]
            assert all(len(part) for part in parts)
            uids, columns = by_uid([whole])
            its_uids, its_columns = by_uid(parts)
            np.testing.assert_array_equal(its_uids, uids)
            for name, column in columns.items():
                assert torch.equal(its_columns[name], column), name
            count += 1
        assert count == alone.steps


@pytest.mark.slow
def test_a_loader_goes_on_from_its_state_at_each_of_40_steps(cached):
    loader = loader_of(cached)
    states, uids = [], []
    while len(uids) < 40:
        for batch in loader:
            states.append(loader.state_dict())
            uids.append(batch.uids)
    resumed = {world: [loader_of(cached, rank, world) for rank in range(world)] for world in (1, 2)}
    for step, state in enumerate(states[:39]):
        ranks = resumed[1 + step % 2]
        parts = []
        for rank in ranks:
            rank.load_state_dict(state)
            parts.append(next(iter(rank)).uids)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(uids[step + 1]))


def test_a_state_of_another_order_is_refused_by_name(cached):
    state = loader_of(cached).state_dict()
    with pytest.raises(ConfigError, match=r"views = 4, this one has 2"):
        loader_of(cached, views=2).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"teachers = None, this one has \{'t': 1.0\}"):
        loader_of(cached).load_state_dict({**state, "teachers": None})


@pytest.mark.slow
def test_a_state_of_other_data_is_refused(cached, make_run):
    """Its epochs may have more steps than this loader's: it would yield nothing, for ever."""
    other = make_run({"data": {"samples_per_shard": 40}, "cache": {"codec": "float32"}})
    with pytest.raises(ConfigError, match=r"the state is of a loader with data = "):
        loader_of(cached).load_state_dict(loader_of(other).state_dict())


@pytest.mark.parametrize(("shards", "lanes"), [(1, 1), (3, 2), (5, 4), (7, 4), (8, 8), (9, 8)])
def test_lanes_are_a_power_of_two(shards, lanes):
    assert Order((64,) * shards, 16, 0, paired=True).lanes == lanes


def test_ranks_that_do_not_divide_the_lanes_are_refused(cached):
    with pytest.raises(ConfigError, match=r"rank 0 of 3 ranks does not fit 8 lanes"):
        loader_of(cached, 0, 3)


def test_a_batch_too_small_for_the_ranks_is_refused_before_the_first_step():
    order = Order((64,) * 8, 4, 0, paired=True)
    with pytest.raises(ConfigError, match=r"rank \d of 8 would have no sample in batch \d+ of epoch 0"):
        order.refuse_empty_shares(range(3), 8)
    order.refuse_empty_shares(range(3), 1)
    Order((64,) * 8, 256, 0, paired=True).refuse_empty_shares(range(3), 8)


@pytest.mark.parametrize("views", [0, -1])
def test_fewer_views_than_one_are_refused(cached, views):
    with pytest.raises(ConfigError, match=rf"views is {views}; replay 1 or more"):
        loader_of(cached, views=views)


def test_a_loader_whose_ranks_would_have_no_sample_says_so_on_each(cached):
    for rank in range(8):
        loader = ReplayLoader(
            Cache(cached.cache_place), data=str(cached.data_place), batch_size=4, size=32, seed=4, rank=rank, world=8
        )
        with pytest.raises(ConfigError, match=r"batch_size is 4, of which rank \d of 8 would have no sample"):
            next(loader.epoch(0))


@pytest.mark.parametrize("sizes", [(1000,) * 16, (500, 500, 500, 237), (40,) * 9, (64,) * 8])
@pytest.mark.parametrize("paired", [False, True])
def test_the_bound_on_shares_never_promises_too_much(sizes, paired):
    promised = 0
    for batch in (8, 16, 24, 48, 96):
        order = Order(sizes, batch, 1, paired=paired)
        for world in (2, 4):
            if order.lanes % world or order._least_share(world) < 1:
                continue
            promised += 1
            for epoch in range(3):
                lanes = order.places(epoch).lane.reshape(order.steps, batch)
                assert all((lanes % world == rank).any(axis=1).all() for rank in range(world))
    assert promised


class Job:
    """`stillroom student` on ranks that torchrun starts."""

    def __init__(self, config, folder, world, restarts=0):
        folder.mkdir(exist_ok=True)
        path = folder / "config.toml"
        path.write_text(_toml(config.model_dump(mode="json", exclude_none=True)))
        self.config = config
        elastic = ["--nproc-per-node", str(world), "--max-restarts", str(restarts), "--monitor-interval", "0.2"]
        command = ["-m", "torch.distributed.run", "--standalone", *elastic, "-m", "stillroom.stages", "student", path]
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self):
        said, _ = self.process.communicate(timeout=120)
        return self.process.returncode, said

    def steps(self):
        """Steps that it has logged."""
        return [line["step"] for line in read_metrics(self.place) if line["event"] == "train"]

    @property
    def place(self):
        return self.config.student_place(self.config.student[0])

    def until_it_learns(self):
        """A line of TensorBoard's file is written after the ranks have met, just before the first step."""
        while self.process.poll() is None and not any("events" in name for name in self.place.list()):
            time.sleep(0.1)
        time.sleep(1.0)

    def until_checkpoint(self):
        while self.process.poll() is None and self.place.size("checkpoint.pt") is None:
            time.sleep(0.1)


def _toml(tables):
    """Plain data as TOML: JSON's scalars and lists are TOML's."""
    lines = []
    for name, table in tables.items():
        for item in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in item.items()]
    return "\n".join(lines)


def student_of(make_config, cached, name, **changes):
    student = {
        "name": name,
        "model": MODEL,
        "batch_size": 32,
        "epochs": 4,
        "eval_epochs": 2,
        "precision": "float32",
        **changes,
    }
    tables = {"data": {"samples_per_shard": 24}, "cache": {"codec": "float32"}, "student": student}
    return make_config(tables, folder=cached.run.dir)


def weights_of(config):
    return safetensors.torch.load(config.student_place(config.student[0]).read("weights.safetensors"))


def furthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture(scope="module")
def steady(make_config, cached, run_stages):
    config = student_of(make_config, cached, "steady")
    (facts,) = run_stages(config, "student")["student"].results.values()
    return weights_of(config), facts


def test_a_rank_that_does_not_see_the_checkpoint_of_the_first_is_refused(make_config, cached, run_stages, monkeypatch):
    config = student_of(make_config, cached, "apart")
    monkeypatch.setattr(Ranks, "broadcast", lambda self, value: value + 7)
    with pytest.raises(ConfigError, match=r"at step 0 and the first rank at step 7; .*students/apart must be a folder"):
        run_stages(config, "student")


@pytest.mark.slow
def test_two_ranks_train_the_student_of_one(make_config, cached, steady, tmp_path):
    config = student_of(make_config, cached, "two")
    status, said = Job(config, tmp_path, 2).wait()
    assert status == 0, said
    assert said.count("student ") == 1, "the first rank alone speaks"
    facts = Ledger(config.student_place(config.student[0])).get("student").facts
    assert facts["proved"] == steady[1]["proved"]
    assert facts["top1"] == pytest.approx(steady[1]["top1"], abs=0.05)
    assert furthest(weights_of(config), steady[0]) < 2e-3


@pytest.mark.slow
def test_a_stop_is_kept_by_all_and_gone_on_from_by_another_number(
    make_config, cached, steady, run_stages, tmp_path, monkeypatch
):
    config = student_of(make_config, cached, "stopped", checkpoint_minutes=60)
    job = Job(config, tmp_path, 2)
    job.until_it_learns()
    job.process.send_signal(signal.SIGTERM)
    status, said = job.wait()
    assert status != 0
    assert Ledger(job.place).get("student") is None, said
    kept = load_checkpoint(job.place)
    assert kept is not None, "nothing else than the stop can have saved it"
    taken, train = [], Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, batch: taken.append(self.step) or train(self, batch))
    run_stages(config, "student")
    assert taken[0] == kept["step"] > 0
    assert furthest(weights_of(config), steady[0]) < 2e-3


@pytest.mark.slow
def test_a_rank_that_is_killed_is_started_again_and_goes_on(make_config, cached, steady, tmp_path):
    config = student_of(make_config, cached, "killed", checkpoint_minutes=0)
    job = Job(config, tmp_path, 2, restarts=1)
    job.until_checkpoint()
    victim = _rank(job.process.pid, 1)
    os.kill(victim, signal.SIGKILL)
    status, said = job.wait()
    assert status == 0, said
    assert furthest(weights_of(config), steady[0]) < 2e-3


def _rank(parent, number):
    """Process of one of a torchrun's ranks."""
    children = psutil.Process(parent).children()
    (found,) = [child.pid for child in children if child.environ().get("RANK") == str(number)]
    return found
