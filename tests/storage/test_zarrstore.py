"""The checked store gives what Zarr's own store gives, or raises; the recording store remembers what it wrote."""

import asyncio
import uuid

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

from stillroom.storage.cache import zarr_store
from stillroom.storage.cache.zarr_store import CheckedStore, RecordingStore
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger import record
from stillroom.storage.ledger.ledger import ObjectDigest
from stillroom.storage.objects import base as place_module
from stillroom.storage.objects.urls import open_place

SHAPE = (4, 6, 5)
VALUES = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


class Written4:
    """An array of four sharded objects in a place, and what a ledger would say of them."""

    def __init__(self, url):
        self.place = open_place(url)
        store = RecordingStore(self.place, creates="")
        group = zarr.create_group(store, zarr_format=3)
        array = group.create_array("a", shape=SHAPE, shards=(2, 6, 3), chunks=(1, 2, 3), dtype="f4", fill_value=-1)
        array[:] = VALUES
        store.release()
        self.written = store.written

    def expect(self, name, *, afresh=False):
        if name not in self.written:
            raise MissingObjectError(f"the ledger does not list {name}")
        return [self.written[name]]

    def array(self):
        return zarr.open_group(CheckedStore(self.place, self.expect), mode="r", zarr_format=3)["a"]

    def chunks(self):
        return [name for name in self.written if "/c/" in name]


@pytest.fixture(params=["whole", "in pieces"])
def touched(request, monkeypatch):
    """How an object is looked at when it is first touched."""
    if request.param == "in pieces":
        for module in (place_module, zarr_store, record):
            monkeypatch.setattr(module, "PIECE", 40)
    return request.param


@pytest.fixture(params=["local", "remote"])
def made(request, tmp_path, touched):
    return Written4(str(tmp_path / "z") if request.param == "local" else f"memory://{uuid.uuid4().hex}/z")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    return Written4(str(tmp_path_factory.mktemp("z")))


def get(store, key, byte_range=None):
    buffer = asyncio.run(store.get(key, default_buffer_prototype(), byte_range))
    return None if buffer is None else buffer.to_bytes()


async def collected(names):
    return [name async for name in names]


def flip(place, name, where=-1):
    data = bytearray(place.read(name))
    data[where] ^= 1
    place.write(name, bytes(data))


# Writing


def test_the_recording_store_remembers_every_object_as_it_is_on_disk(made):
    assert sorted(made.written) == sorted(made.place.list())
    assert len(made.chunks()) == 4
    assert all(ObjectDigest.of(made.place.read(name)) == item for name, item in made.written.items())


def test_zarr_itself_reads_what_was_written(tmp_path):
    Written4(str(tmp_path))
    assert np.array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[:], VALUES)


def test_a_task_does_not_see_what_an_interrupted_attempt_left(tmp_path):
    """Half of a Zarr shard is written: the other half must be empty, not what lay there without a record."""
    place = Written4(str(tmp_path)).place
    store = RecordingStore(place)
    zarr.open_group(store, mode="r+", zarr_format=3)["a"][0, :, 0:3] = 5.0
    store.release()
    assert list(store.written) == ["a/c/0/0/0"]
    now = zarr.open_array(str(tmp_path / "a"), mode="r")[0:2, :, 0:3]
    assert np.all(now[0] == 5.0)
    assert np.all(now[1] == -1.0)


def test_a_task_that_creates_a_group_does_not_see_the_old_one(made):
    store = RecordingStore(made.place, creates="a")
    assert not asyncio.run(store.exists("a/zarr.json"))
    assert asyncio.run(store.exists("zarr.json"))
    assert not asyncio.run(store.exists("a/c/0/0/0"))
    zarr.create_array(store, name="a", shape=(2,), dtype="i4")
    assert asyncio.run(store.exists("a/zarr.json"))
    assert list(store.written) == ["a/zarr.json"]


def test_a_group_that_is_missing_above_what_a_task_creates_is_not_made_up(made):
    """Zarr would write one without attributes, and the task's record would vouch for it."""
    made.place.delete("zarr.json")
    store = RecordingStore(made.place, creates="a")
    with pytest.raises(MissingObjectError, match=r"zarr.json is missing; `stillroom verify --repair`"):
        zarr.create_array(store, name="a", shape=(2,), dtype="i4")
    assert made.place.size("zarr.json") is None


# Reading


def test_the_checked_store_reads_what_was_written(made):
    assert np.array_equal(made.array()[:], VALUES)


@given(st.tuples(*(st.slices(size) for size in SHAPE)))
@settings(max_examples=40)
def test_any_part_equals_the_part_of_the_whole(unchanged, where):
    where = tuple(slice(*item.indices(size)) for item, size in zip(where, SHAPE, strict=True))
    if any(item.step < 0 for item in where):
        where = tuple(slice(item.start, item.stop) for item in where if item.step > 0)
    assert np.array_equal(unchanged.array()[where], VALUES[where])


@pytest.mark.parametrize(
    ("byte_range", "part"),
    [
        (None, slice(None)),
        (RangeByteRequest(3, 9), slice(3, 9)),
        (RangeByteRequest(0, 10**9), slice(None)),
        (OffsetByteRequest(7), slice(7, None)),
        (SuffixByteRequest(5), slice(-5, None)),
        (SuffixByteRequest(10**9), slice(None)),
    ],
)
def test_a_byte_range_is_the_same_at_first_touch_and_after(made, byte_range, part):
    store = CheckedStore(made.place, made.expect)
    key = made.chunks()[0]
    whole = made.place.read(key)
    assert get(store, key, byte_range) == whole[part]
    assert get(store, key, byte_range) == whole[part]


def test_the_first_touch_of_a_few_bytes_checks_the_whole_object(made):
    key = made.chunks()[0]
    flip(made.place, key, where=0)
    with pytest.raises(DamagedObjectError):
        get(CheckedStore(made.place, made.expect), key, SuffixByteRequest(4))


def test_a_large_object_is_never_in_memory_whole(made, touched, monkeypatch):
    whole, pieces = [], []
    read, read_range = made.place.read, made.place.read_range
    monkeypatch.setattr(made.place, "read", lambda name: whole.append(name) or read(name))
    monkeypatch.setattr(made.place, "read_range", lambda *what: pieces.append(what) or read_range(*what))
    name = made.chunks()[0]
    assert get(CheckedStore(made.place, made.expect), name, RangeByteRequest(3, 9)) == read(name)[3:9]
    assert whole == ([name] if touched == "whole" else [])
    assert max((stop - start for _, start, stop in pieces), default=0) == (0 if touched == "whole" else 40)


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_object_is_named_with_both_digests(made, number):
    key = made.chunks()[number]
    flip(made.place, key)
    with pytest.raises(DamagedObjectError) as caught:
        made.array()[:]
    found = ObjectDigest.of(made.place.read(key))
    assert f"{made.place}/{key}" in str(caught.value)
    assert found.digest in str(caught.value)
    assert made.written[key].digest in str(caught.value)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda _: b""])
def test_an_object_of_another_size_is_damaged(made, change):
    key = made.chunks()[1]
    made.place.write(key, change(made.place.read(key)))
    with pytest.raises(DamagedObjectError, match=key):
        made.array()[:]


def test_swapped_objects_are_damaged(made):
    first, second = made.chunks()[:2]
    one, other = made.place.read(first), made.place.read(second)
    made.place.write(first, other)
    made.place.write(second, one)
    with pytest.raises(DamagedObjectError):
        made.array()[:]


def test_a_missing_object_is_named_and_never_filled(made):
    key = made.chunks()[2]
    made.place.delete(key)
    with pytest.raises(MissingObjectError, match=key):
        made.array()[:]


def test_an_object_that_no_task_wrote_is_refused(made):
    key = made.chunks()[3]
    del made.written[key]
    with pytest.raises(MissingObjectError, match=key):
        made.array()[:]


def test_damaged_metadata_is_refused(made):
    flip(made.place, "a/zarr.json", where=20)
    with pytest.raises(DamagedObjectError, match=r"a/zarr\.json"):
        made.array()


def test_whichever_of_several_allowed_forms_is_there_is_read(made):
    other = ObjectDigest.of(b"another form")
    store = CheckedStore(made.place, lambda name: [other, *made.expect(name)])
    assert np.array_equal(zarr.open_group(store, mode="r", zarr_format=3)["a"][:], VALUES)


def test_nothing_can_be_written_through_it(made):
    array = made.array()
    with pytest.raises((ValueError, NotImplementedError)):
        array[0] = 1.0
    assert np.array_equal(made.array()[:], VALUES)


def test_it_lists_what_is_there(made):
    group = zarr.open_group(CheckedStore(made.place, made.expect), mode="r", zarr_format=3)
    assert list(group.array_keys()) == ["a"]
    assert asyncio.run(collected(group.store.list_dir("a"))) == ["c", "zarr.json"]
    assert asyncio.run(collected(group.store.list_prefix("a/c/0"))) == ["a/c/0/0/0", "a/c/0/0/1"]
