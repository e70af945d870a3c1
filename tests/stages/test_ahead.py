"""Batches that are made ahead, and teachers that are asked without waiting, on a stand-in for a GPU that is late.

What comes of it is what comes of doing one thing after another, to the bit.
"""

import time

import numpy as np
import pytest
import torch
from trials.answers import into
from trials.late import LateStreams

from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.view_digests import Hasher
from stillroom.pipeline.replay import shared_pass as shared_module
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.teacher.blocks import BlockMaker
from stillroom.stages.run.resources import backend_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import StillroomError, ViewMismatchError


@pytest.fixture(scope="module")
def cached(make_run):
    return make_run({"cache": {"codec": "float32"}})


@pytest.fixture
def late(monkeypatch):
    """Every pass is on a late lane."""
    lane = LateStreams()
    monkeypatch.setattr(shared_module, "streams_of", lambda _: lane)
    return lane


def loader_of(config, **more):
    return ReplayLoader(
        Cache(config.cache_place), data=str(config.data_place), batch_size=16, size=32, seed=4, **{"threads": 1, **more}
    )


def same(one, other):
    assert np.array_equal(one.uids, other.uids)
    assert one.proved == other.proved
    pairs = zip(one.tensors(), other.tensors(), strict=True)
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)


@pytest.mark.parametrize("more", [{}, {"size": 24, "proof_share": 1.0}, {"size": 24, "proof_share": 0.5}])
def test_batches_made_ahead_are_those_made_in_turn(cached, monkeypatch, more):
    size = {"size": more.pop("size", 32)}
    data, cache = str(cached.data_place), Cache(cached.cache_place)
    plain = ReplayLoader(cache, data=data, batch_size=16, seed=4, threads=1, **size, **more)
    monkeypatch.setattr(shared_module, "streams_of", lambda _: lane)
    lane = LateStreams()
    ahead = ReplayLoader(cache, data=data, batch_size=16, seed=4, threads=1, **size, **more)
    for epoch, start in ((0, 0), (1, 3)):
        pairs = list(zip(plain.epoch(epoch, start), ahead.epoch(epoch, start), strict=True))
        assert len(pairs) == plain.steps - start
        assert all(same(one, other) for one, other in pairs)
    assert lane.joined >= 2 * plain.steps - 3
    assert len(lane.waited) > 0


def test_a_view_that_is_not_the_teachers_is_refused_before_it_is_handed_out(cached, late):
    loader = loader_of(cached)
    (prover,) = loader._pass._provers
    compare, wrong = prover._compare, 3

    def altered(rows, found, expected):
        altered.calls += 1
        return compare(rows, found + (altered.calls == wrong), expected)

    altered.calls = 0
    prover._compare = altered
    given = []
    with pytest.raises(ViewMismatchError, match="is not what teacher t saw"):
        given.extend(loader.epoch(0))
    assert len(given) == wrong - 1
    assert all(batch.proved >= len(batch) for batch in given)


def test_a_second_epoch_ends_the_first_aloud_though_it_is_ahead(cached, late):
    loader = loader_of(cached)
    first = loader.epoch(0)
    next(first)
    assert sum(1 for _ in loader.epoch(1)) == loader.steps
    with pytest.raises(StillroomError, match="one epoch at a time"):
        next(first)


def test_a_second_epoch_may_begin_while_the_first_is_being_rendered(cached, late, monkeypatch):
    run = Renderer._run
    loader = loader_of(cached)
    plain = [batch.uids for batch in loader.epoch(1)]
    monkeypatch.setattr(Renderer, "_run", lambda self: time.sleep(0.05) or run(self))
    next(loader.epoch(2))  # dropped at once
    first = loader.epoch(0)
    next(first)  # the thread is in the renderer with the next ones
    second = [batch.uids for batch in loader.epoch(1)]
    assert all(np.array_equal(one, other) for one, other in zip(plain, second, strict=True))


def test_an_epoch_that_is_left_early_leaves_nothing_to_the_next(cached, late):
    loader, plain = loader_of(cached), loader_of(cached)
    for _ in range(3):
        next(loader.epoch(0))
        next(loader.epoch(2, 1))
    assert all(same(one, other) for one, other in zip(loader.epoch(1), plain.epoch(1), strict=True))


@pytest.mark.parametrize("branches", [1, 2])
def test_a_block_that_is_not_waited_for_is_the_same_block(cached, branches):
    data, cache = Dataset(cached.data_place), Cache(cached.cache_place)
    teacher = load_teacher(cached.teacher[0], data.classes)
    index, seeds = data.index(0), cache.seeds(0)
    made, told, answered = [], [], []
    for lane in (None, LateStreams()):
        recipe = cached.views.recipe
        renderer = Renderer((32,), 16, views=branches, operations=recipe.acting, backend=backend_of(cached), threads=1)
        maker = BlockMaker(teacher, recipe, renderer, 16)
        if lane is not None:
            maker.lane, maker.hasher = lane, Hasher(lane)
        done, logits = [], np.full((4, len(index), 10), np.nan, np.float32)
        keep = [(1, 3), (2, 0)]
        made.append(maker.make(index, data.images(0, index), seeds, range(4), into(logits), keep, done.append))
        told.append(done)
        answered.append(logits)
    one, other = made
    assert np.array_equal(*answered)
    assert np.array_equal(one.digests, other.digests)
    assert one.kept.keys() == other.kept.keys()
    assert all(np.array_equal(one.kept[key], other.kept[key]) for key in one.kept)
    assert (one.entropy, one.top1) == (other.entropy, other.top1)
    assert told[0] == told[1] == [len(index)] * 4
    assert np.array_equal(one.digests[1], cache.teacher("t").digests(0, 1))
