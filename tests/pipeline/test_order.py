"""A student's epoch: every sample at most once, pairs side by side, and the same batches on any number of ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.pipeline.replay import epoch_order as order_module
from stillroom.pipeline.replay.epoch_order import LANES, Order, last_uses
from stillroom.storage.errors import ConfigError

orders = st.builds(
    lambda sizes, share, **rest: Order(sizes, batch_size=1 + int(share * (sum(sizes) - 1)), **rest),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    paired=st.booleans(),
    window=st.integers(1, 4),
)
epochs = st.integers(0, 500)


def pairs(places):
    return list(zip(places.shard.tolist(), places.position.tolist(), strict=True))


def units(order, places):
    """The unit that each place belongs to: a pair, or a sample of its own."""
    return [(shard, position // 2 if order.paired else position) for shard, position in pairs(places)]


@given(orders, epochs)
def test_every_sample_comes_at_most_once_and_all_but_the_remainder_come(order, epoch):
    found = pairs(order.places(epoch))
    there = {(shard, position) for shard, size in enumerate(order.sizes) for position in range(size)}
    assert len(found) == len(set(found)) == order.steps * order.batch_size
    assert set(found) <= there
    assert 0 <= len(there) - len(found) < order.batch_size


@given(orders, epochs)
def test_the_halves_of_a_pair_come_side_by_side(order, epoch):
    found = units(order, order.places(epoch))
    starts = [place for place in range(len(found)) if place == 0 or found[place] != found[place - 1]]
    assert len(starts) == len(set(found)), "a pair is torn apart"
    if order.paired:
        positions = [position for _, position in pairs(order.places(epoch))]
        assert all(positions[place] % 2 == 0 for place in starts)


def test_a_pair_is_torn_only_by_the_end_of_the_epoch():
    order = Order([4, 4, 4], batch_size=11, seed=0, paired=True)
    alone = [unit for unit in units(order, order.places(0)) if units(order, order.places(0)).count(unit) == 1]
    assert len(alone) == 1
    assert units(order, order.places(0))[-1] == alone[0]


@given(orders, epochs)
def test_each_data_shard_is_in_one_lane_and_the_lanes_are_dealt_evenly(order, epoch):
    whole = Order(order.sizes, batch_size=1, seed=order.seed, paired=order.paired, window=order.window)
    places = whole.places(epoch)
    lanes = {shard: set(places.lane[places.shard == shard].tolist()) for shard in range(len(order.sizes))}
    assert all(len(found) == 1 for found in lanes.values())
    counts = np.bincount([found.pop() for found in lanes.values()], minlength=order.lanes)
    assert len(counts) == order.lanes
    assert order.lanes in (1, 2, 4, 8)
    assert order.lanes <= len(order.sizes) < 2 * order.lanes or order.lanes == LANES
    assert counts.max() - counts.min() <= 1


@given(orders, epochs, st.sampled_from([1, 2, 4, 8]))
def test_ranks_that_own_whole_lanes_make_up_the_same_global_batches(order, epoch, world):
    places = order.places(epoch)
    for step in range(order.steps):
        batch = places.slice(step * order.batch_size, (step + 1) * order.batch_size)
        shares = [batch.where(batch.lane % world == rank) for rank in range(world)]
        assert sum(len(share) for share in shares) == len(batch) == order.batch_size
        # Each rank's share in the global order: dealing the lanes out and merging them again loses no place.
        merged = [iter(pairs(share)) for share in shares]
        assert [next(merged[lane % world]) for lane in batch.lane.tolist()] == pairs(batch)


@given(orders, epochs)
def test_a_lane_is_in_the_same_order_whether_or_not_others_are_looked_at(order, epoch):
    """No more than `window` data shards of a lane are held at a time."""
    places = order.places(epoch)
    for lane in range(order.lanes):
        shards = places.shard[places.lane == lane]
        first = {int(shard): place for place, shard in reversed(list(enumerate(shards.tolist())))}
        last = {int(shard): place for place, shard in enumerate(shards.tolist())}
        for place in range(len(shards)):
            assert sum(first[shard] <= place <= last[shard] for shard in first) <= order.window


@given(orders, epochs)
def test_every_stretch_takes_its_share_from_every_lane(order, epoch):
    whole = Order(order.sizes, batch_size=1, seed=order.seed, paired=False, window=order.window)
    lane = whole.places(epoch).lane
    totals = np.bincount(lane, minlength=order.lanes)
    taken = np.cumsum(np.eye(order.lanes)[lane], axis=0)
    fair = np.arange(1, len(lane) + 1)[:, None] * totals / len(lane)
    # Unit j of n comes at (2j + 1) / 2n: each lane is half a unit off at most, against any other as much again.
    assert np.abs(taken - fair).max() <= order.lanes / 2 + 0.5


@given(orders, epochs)
def test_the_order_is_a_pure_function_of_seed_and_epoch(order, epoch):
    again = Order(list(order.sizes), order.batch_size, order.seed, order.paired, order.window)
    again.places(epoch + 1)
    first, second = order.places(epoch), again.places(epoch)
    assert pairs(first) == pairs(second)
    assert np.array_equal(first.lane, second.lane)


@given(orders, epochs)
def test_the_batch_size_cuts_the_order_and_does_not_change_it(order, epoch):
    whole = Order(order.sizes, 1, order.seed, order.paired, order.window)
    found = pairs(order.places(epoch))
    assert found == pairs(whole.places(epoch))[: len(found)]


def test_other_epochs_and_other_seeds_have_other_orders():
    orders = [Order([50] * 10, 32, seed, paired=True) for seed in range(3)]
    found = [tuple(pairs(order.places(epoch))) for order in orders for epoch in range(4)]
    assert len(set(found)) == len(found)


def test_data_shards_are_shuffled_and_so_are_units_within_a_window():
    order = Order([20] * 16, 1, 3, paired=False)
    places = order.places(0)
    assert places.shard[places.lane == 0][:40].tolist() != sorted(places.shard[places.lane == 0][:40].tolist())
    assert len(set(places.shard[places.lane == 0][:20].tolist())) == 2
    assert {tuple(sorted(set(order.places(e).shard[order.places(e).lane == 0].tolist()))) for e in range(5)} != {(0, 8)}


@settings(max_examples=30)
@given(orders, st.integers(1, 40), st.integers(0, 50))
def test_each_view_comes_once_before_any_comes_again(order, views, cycle):
    for shard in range(len(order.sizes)):
        turns = [order.view(shard, cycle * views + turn, views) for turn in range(views)]
        assert sorted(turns) == list(range(views))


def test_views_come_in_another_order_for_another_shard_cycle_and_seed():
    found = {
        tuple(Order([4, 4], 2, seed, paired=True).view(shard, cycle * 12 + turn, 12) for turn in range(12))
        for seed in range(2)
        for shard in range(2)
        for cycle in range(3)
    }
    assert len(found) == 12


@given(orders)
def test_an_epoch_has_as_many_whole_batches_as_fit(order):
    assert order.steps * order.batch_size <= sum(order.sizes) < (order.steps + 1) * order.batch_size


@pytest.mark.parametrize("sizes", [[3, 4], [1]])
def test_a_batch_that_is_larger_than_the_data_is_refused(sizes):
    with pytest.raises(ConfigError, match=f"batch_size is 8 and there are {sum(sizes)} samples"):
        Order(sizes, batch_size=8, seed=0, paired=True)


@given(orders, epochs, st.sampled_from([1, 2, 4, 8]), st.integers(1, 6), st.floats(0, 1))
def test_when_a_rank_needs_a_data_shard_is_what_its_batches_say(order, epoch, world, span, share):
    places, start = order.places(epoch), int(share * order.steps)
    for rank in range(world):
        wanted = {}
        for step in range(start, order.steps):
            batch = places.slice(step * order.batch_size, (step + 1) * order.batch_size)
            wanted |= dict.fromkeys(sorted(set(batch.shard[batch.lane % world == rank].tolist())), step)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(order_module, "_SPAN", span)
            found = last_uses(places, order.batch_size, start, rank, world)
        assert list(found.items()) == list(wanted.items())
