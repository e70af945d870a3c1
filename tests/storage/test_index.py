"""The index of a data shard: the same bytes for the same samples, readable by anyone, and never half believed."""

import io
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.errors import DamagedObjectError


def make(keys, seed=0):
    rng = np.random.default_rng(seed)
    count = len(keys)
    return ShardIndex(
        uid=rng.integers(0, 2**64, count, np.uint64),
        key=tuple(keys),
        label=rng.integers(0, 1000, count, np.int32),
        offset=rng.integers(0, 2**40, count, np.int64),
        size=rng.integers(0, 2**31, count, np.int64),
        height=rng.integers(1, 9000, count, np.int32),
        width=rng.integers(1, 9000, count, np.int32),
        digest=rng.integers(0, 2**64, count, np.uint64),
    )


def assert_same(first, second):
    assert first.key == second.key
    for name in ("uid", "label", "offset", "size", "height", "width", "digest"):
        mine, theirs = getattr(first, name), getattr(second, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=20), st.integers(0, 99))
def test_an_index_comes_back_as_it_was_written(keys, seed):
    index = make(keys, seed)
    assert_same(ShardIndex.from_parquet(index.to_parquet(), "index"), index)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=20))
def test_the_same_samples_give_the_same_bytes(keys):
    assert make(keys).to_parquet() == make(keys).to_parquet()
    assert make([*keys, "more"]).to_parquet() != make(keys).to_parquet()


def test_its_length_is_the_number_of_samples():
    assert len(make(["a", "b", "c"])) == 3


def test_anyone_can_read_it_as_parquet():
    index = make(["cats/1", "dogs/2", "cats/3.big"])
    table = pq.read_table(io.BytesIO(index.to_parquet()))
    assert table.column_names == ["uid", "key", "label", "slot", "offset", "size", "height", "width", "digest"]
    assert table.column("slot").to_pylist() == [0, 1, 2]
    assert table.column("key").to_pylist() == ["cats/1", "dogs/2", "cats/3.big"]
    assert table.column("uid").type == pa.uint64()


def test_a_column_that_is_not_there_is_damage():
    table = pq.read_table(io.BytesIO(make(["a"]).to_parquet())).drop_columns(["label"])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(DamagedObjectError, match="label"):
        ShardIndex.from_parquet(sink.getvalue(), "index/000000.parquet")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_an_index_that_is_cut_short_is_damage(keep):
    data = make([f"k{number}" for number in range(50)]).to_parquet()
    with pytest.raises(DamagedObjectError, match=r"data/index/000003\.parquet"):
        ShardIndex.from_parquet(data[: int(keep * len(data))], "data/index/000003.parquet")


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_gives_damage_and_no_other_error(where, bits):
    data = bytearray(make([f"folder/key-{number}" for number in range(30)]).to_parquet())
    data[where % len(data)] ^= bits
    # Parquet has no checksum of its own here: a change may go unseen, and the ledger's digest finds it.
    with suppress(DamagedObjectError):
        ShardIndex.from_parquet(bytes(data), "index/000000.parquet")
