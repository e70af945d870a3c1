"""A Zarr shard that is put together from rows as they come is one that Zarr itself writes and reads."""

import errno
import os
import tempfile

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from stillroom.storage.codecs.registry import logit_codec
from stillroom.storage.errors import ModelError
from stillroom.storage.spill.row_buffer import RowStore
from stillroom.storage.writers import shard_index
from stillroom.storage.writers.encoding_loss import BlockFacts
from stillroom.storage.writers.shard_encoder import Encoding, LogitShard

VIEWS, ROWS, CLASSES = 3, 50, 40
CODECS = ("float32", "float16", "int8", "topk:5", "sqrtp:0.05")


def logits_of(seed=0, rows=ROWS):
    return np.random.default_rng(seed).normal(0, 3, (VIEWS, rows, CLASSES)).astype(np.float32)


def encoding_of(name, chunk=16):
    return Encoding(name, logit_codec(name, None), chunk, 4 * chunk, CLASSES, (1.0, 4.0))


def shard_of(encoding, logits, order, within=2**30):
    """By way of a LogitShard, whose rows come in this order, seven at a time."""
    shard = LogitShard(encoding, VIEWS, logits.shape[1], "here", within)
    for start in range(0, len(order), 7):
        some = order[start : start + 7]
        for view in (2, 0, 1):
            shard.put(view, some, logits[view, some])
    data, facts = shard.finish()
    return data[:], facts


def by_zarr(encoding, logits):
    """The array that Zarr writes whole, its one shard, and its store."""
    memory = {}
    array = zarr.create_array(
        MemoryStore(memory),
        shape=(1, VIEWS, logits.shape[1], CLASSES),
        shards=(1, VIEWS, encoding.slots, CLASSES),
        chunks=(1, 1, encoding.chunk, CLASSES),
        **encoding.zarr_kwargs(),
    ).with_config({"write_empty_chunks": True})
    array[0] = logits
    return array, memory


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("within", [2**30, 0])
def test_zarr_reads_what_it_would_have_written(name, within):
    encoding, logits = encoding_of(name), logits_of()
    array, memory = by_zarr(encoding, logits)
    written, theirs = np.asarray(array[0]), memory["c/0/0/0/0"].to_bytes()
    mine, facts = shard_of(encoding, logits, np.random.default_rng(1).permutation(ROWS), within)
    assert len(mine) == len(theirs)
    assert facts["bytes_per_view"] == round(len(mine) / (VIEWS * ROWS), 4)
    memory["c/0/0/0/0"] = array.store_path.store._store_dict["c/0/0/0/0"].__class__.from_bytes(mine)
    assert np.asarray(array[0]).tobytes() == written.tobytes()
    assert sorted(chunks_of(mine)) == sorted(chunks_of(theirs))


def chunks_of(shard, count=VIEWS * 4):
    index = np.frombuffer(shard[-16 * count - 4 : -4], "<u8").reshape(count, 2)
    return [shard[start : start + size] for start, size in index]


@pytest.mark.parametrize("name", CODECS)
def test_order_and_memory_change_no_byte(name):
    encoding, logits = encoding_of(name), logits_of()
    orders = [np.arange(ROWS), np.arange(ROWS)[::-1], np.random.default_rng(2).permutation(ROWS)]
    found = [shard_of(encoding, logits, order, within) for order in orders for within in (0, 2**30)]
    assert all(one == found[0] for one in found)


def test_chunks_beyond_the_rows_are_there():
    """A data shard may have fewer samples than the largest one, for which arrays have room."""
    encoding, logits = encoding_of("float16"), logits_of(rows=20)
    _, memory = by_zarr(encoding, np.pad(logits, [(0, 0), (0, ROWS - 20), (0, 0)], constant_values=np.nan))
    mine, _ = shard_of(encoding, logits, np.arange(20))
    assert sorted(chunks_of(mine)) == sorted(chunks_of(memory["c/0/0/0/0"].to_bytes()))


def test_a_logit_that_does_not_fit_is_named():
    logits = logits_of()
    logits[1, 3, 0] = 70_000
    with pytest.raises(ModelError, match=r"here \(7e\+04\) does not fit into float16; use cache.codec"):
        shard_of(encoding_of("float16"), logits, np.arange(ROWS))


def test_an_index_has_offsets_sizes_and_a_checksum():
    whole = b"abcde" + shard_index.index_of([2, 0, 3])
    assert len(whole) == 5 + 48 + 4
    assert chunks_of(whole, 3) == [b"ab", b"", b"cde"]
    assert np.frombuffer(whole[5:-4], "<u8").tolist() == [0, 2, 2, 0, 2, 3]


@pytest.mark.parametrize("name", CODECS)
def test_what_is_lost_does_not_depend_on_the_chunks(name):
    logits = logits_of()
    (one, two) = (shard_of(encoding_of(name, chunk), logits, np.arange(ROWS))[1] for chunk in (16, 64))
    for key in ("kl_mean", "kl_p99", "kl_max", "top1", "rows"):
        np.testing.assert_allclose(one[key], two[key], rtol=1e-5, atol=1e-9)
    assert (max(one["kl_max"]) == 0) == (name == "float32")


def test_rows_are_sampled_by_their_place_in_the_block(monkeypatch):
    monkeypatch.setattr("stillroom.storage.writers.encoding_loss._SAMPLED", VIEWS * ROWS * CLASSES // 7)
    logits = logits_of().reshape(-1, CLASSES)
    stored = logits.astype(np.float16).astype(np.float32)
    found = []
    for step in (150, 40, 1):
        facts = BlockFacts("float16", logit_codec("float16", None), step, len(logits), CLASSES, (2.0,))
        for start in reversed(range(0, len(logits), step)):
            facts.add(start, b"", logits[start : start + step], stored[start : start + step])
        found.append(facts.facts(1, 1))
    assert found[0] == found[1] == found[2]
    assert found[0]["rows"] == -(-150 // 7)


@pytest.mark.parametrize("within", [0, 2**30])
def test_rows_come_back_from_memory_or_a_file(within):
    rows = np.random.default_rng(0).normal(size=(100, 33)).astype(np.float32)
    store = RowStore(100, 33, within)
    order = np.random.default_rng(1).permutation(100)
    for some in np.split(order, [10, 11, 60]):
        store.put(some, rows[some])
    store.put(order[:0], rows[:0])
    assert store.missing == 0
    assert store.rows(0, 100).tobytes() == rows.tobytes()
    assert store.rows(7, 20).tobytes() == rows[7:20].tobytes()
    assert store.rows(20, 20).shape == (0, 33)


def test_rows_beyond_the_limit_are_in_no_memory_and_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = RowStore(10, 4, 159)
    store.put(np.arange(10), np.ones((10, 4), np.float32))
    assert store._memory is None
    assert list(tmp_path.iterdir()) == []
    assert RowStore(10, 4, 160)._memory is not None


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=str(tmp_path)):
        RowStore(10, 4, 0).put(np.arange(2), np.ones((2, 4), np.float32))
