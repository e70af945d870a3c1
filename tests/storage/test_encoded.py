"""Encoded images: in memory or one by one, they are the same bytes and the same errors, and nothing is left open."""

import os
import uuid
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from stillroom.storage.dataset.encoded_images import Allowance, Checked, Picked, extent, fetched, picked, whole
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.dataset.webdataset import pack, scan_tar
from stillroom.storage.errors import DamagedObjectError, MissingObjectError
from stillroom.storage.ledger import record
from stillroom.storage.ledger.record import ObjectDigest
from stillroom.storage.objects.urls import open_place

TAR = "shards/000000.tar"
SIZES = (700, 1, 2048, 513, 90_000, 4_000)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def make_tar(sizes):
    """A tar of random bytes, and what must be in it."""
    random = np.random.default_rng(len(sizes))
    files = {f"sample {number}": random.bytes(size) for number, size in enumerate(sizes)}
    tar = pack((key, {"jpg": data, "cls": b"3"}) for key, data in files.items())[:]
    members = [sample.members["jpg"] for sample in scan_tar(tar, "it")]
    count = len(sizes)
    index = ShardIndex(
        np.arange(count, dtype=np.uint64),
        tuple(files),
        np.zeros(count, np.int32),
        np.array([member.offset for member in members]),
        np.array([member.size for member in members]),
        *(np.ones(count, np.int32),) * 2,
        np.array([xxhash.xxh3_64_intdigest(data) for data in files.values()], np.uint64),
    )
    return tar, Checked(index, TAR, 5), list(files.values())


def both(place, checked):
    """The images of a tar, in memory and one by one; lists of bytes, or of what was said instead."""

    def tried(image):
        try:
            return image().tobytes()
        except DamagedObjectError as error:
            return str(error)

    buffer = np.frombuffer(place.read(TAR), np.uint8)
    single = fetched(place, TAR, checked)
    slots = range(len(checked.index))
    cut = [buffer[start : start + size] for start, size in zip(checked.index.offset, checked.index.size, strict=True)]
    return (
        [tried(lambda slot=slot: checked.image(slot, cut[slot])) for slot in slots],
        [tried(lambda slot=slot: single[slot]) for slot in slots],
    )


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path):
    url = str(tmp_path / "data") if request.param == "local" else f"memory://{uuid.uuid4().hex}/data"
    return open_place(url)


def test_one_by_one_they_are_what_is_in_memory(place):
    tar, checked, files = make_tar(SIZES)
    place.write(TAR, tar)
    single = fetched(place, TAR, checked)
    assert [image.tobytes() for image in whole(np.frombuffer(tar, np.uint8), checked)] == files
    assert [image.tobytes() for image in single] == files
    assert single[-1].tobytes() == files[-1]
    assert [image.tobytes() for image in single[1:6:2]] == files[1:6:2]
    assert len(single) == len(files)
    with pytest.raises(IndexError):
        single[len(files)]


@given(st.lists(st.integers(0, 1200), min_size=1, max_size=6), st.data())
def test_a_cut_tar_or_a_flipped_bit_is_told_alike(sizes, data):
    tar, checked, files = make_tar(sizes)
    place = open_place(f"memory://{uuid.uuid4().hex}")
    broken = bytearray(tar[: data.draw(st.integers(1, len(tar)))])
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place.write(TAR, bytes(broken))
    in_memory, one_by_one = both(place, checked)
    assert one_by_one == in_memory
    for slot, (found, file) in enumerate(zip(one_by_one, files, strict=True)):
        assert found == file or found.startswith(f"sample 'sample {slot}' in {TAR} (data shard 5, slot {slot}) is not")


@pytest.mark.parametrize("kept", [0, 1000, 40_000])
def test_a_cut_file_is_told_alike(place, kept):
    tar, checked, files = make_tar(SIZES)
    place.write(TAR, tar[:kept] or b"\0")
    in_memory, one_by_one = both(place, checked)
    assert one_by_one == in_memory
    assert isinstance(one_by_one[-1], str)
    assert (one_by_one[0] == files[0]) == (kept == 40_000)


def test_a_file_that_is_cut_while_it_is_open_is_told(tmp_path):
    tar, checked, files = make_tar(SIZES)
    place = open_place(str(tmp_path))
    place.write(TAR, tar)
    single = fetched(place, TAR, checked)
    assert single[4].tobytes() == files[4]
    os.truncate(tmp_path / TAR, int(checked.index.offset[4]) + 5)
    assert single[0].tobytes() == files[0]
    with pytest.raises(DamagedObjectError, match=r"'sample 4' in .* is not what was ingested"):
        single[4]


def test_a_missing_tar_is_told(place):
    _, checked, _ = make_tar(SIZES)
    with pytest.raises(MissingObjectError, match="does not exist"):
        fetched(place, TAR, checked)


def test_nothing_is_left_open_or_lying_about(place, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    tar, checked, _ = make_tar(SIZES)
    place.write(TAR, tar)
    before = open_files()
    single = fetched(place, TAR, checked)
    part = single[2:4]
    assert not any((tmp_path / "scratch").iterdir())
    assert open_files() == before + 1
    del single
    assert len(part[0]) == SIZES[2]
    del part
    assert open_files() == before


def test_a_copy_that_fails_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("stillroom.storage.objects.base.PIECE", 10_000)
    tar, checked, _ = make_tar(SIZES)
    place = open_place(f"memory://{uuid.uuid4().hex}")
    place.write(TAR, tar)
    read = place.read_range

    def failing(name, start, stop):
        if start > 30_000:
            raise OSError(5, "Input/output error")
        return read(name, start, stop)

    monkeypatch.setattr(place, "read_range", failing)
    before = open_files()
    with pytest.raises(OSError, match="Input/output error"):
        fetched(place, TAR, checked)
    assert open_files() == before
    assert not any(tmp_path.iterdir())


def test_a_full_disk_names_the_folder_for_temporary_files(small_disk, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    tar, checked, _ = make_tar([300_000] * 8)
    place = open_place(f"memory://{uuid.uuid4().hex}")
    place.write(TAR, tar)
    before = open_files()
    with pytest.raises(OSError, match="No space left on device") as caught:
        fetched(place, TAR, checked)
    assert caught.value.filename == str(small_disk)
    assert open_files() == before


def test_a_remote_tar_is_read_once_and_in_few_pieces(monkeypatch):
    monkeypatch.setattr("stillroom.storage.objects.base.PIECE", 40_000)
    tar, checked, files = make_tar(SIZES)
    place = open_place(f"memory://{uuid.uuid4().hex}")
    place.write(TAR, tar)
    asked = []
    read = place.read_range

    def noted(name, start, stop):
        asked.append((start, stop))
        return read(name, start, stop)

    monkeypatch.setattr(place, "read_range", noted)
    single = fetched(place, TAR, checked)
    assert [image.tobytes() for image in single] == files
    assert [start for start, _ in asked[1:]] == [stop for _, stop in asked[:-1]]
    assert len(asked) == 3
    assert asked[0][0] == checked.index.offset[0]
    assert asked[-1][1] == extent(checked.index)


def test_nothing_is_fetched_before_it_is_asked_for(tmp_path):
    tar, checked, files = make_tar(SIZES)
    place = open_place(str(tmp_path))
    place.write(TAR, tar)
    single = fetched(place, TAR, checked)
    (tmp_path / TAR).write_bytes(bytes(len(tar)))  # the same file, with other bytes
    some = picked(single, np.array([4, 0, 2]))[1:]
    assert isinstance(some, Picked)
    assert len(some) == 2
    with pytest.raises(DamagedObjectError, match="'sample 2'"):
        some[1]
    (tmp_path / TAR).write_bytes(tar)
    assert [image.tobytes() for image in some] == [files[0], files[2]]


def test_images_of_several_data_shards_are_picked_in_any_order():
    shards = [[np.array([shard, slot], np.uint8) for slot in range(3)] for shard in range(2)]
    found = Picked(shards, np.array([1, 0, 1]), np.array([2, 0, 0]))
    assert [image.tolist() for image in found] == [[1, 2], [0, 0], [1, 0]]


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=30), st.integers(0, 100))
def test_an_allowance_is_never_passed_and_always_given_back(asked, most):
    allowance = Allowance(most)
    held = []
    for size, drop in asked:
        there = sum(len(buffer) for buffer in held)
        buffer = allowance.read(size, lambda size=size: b"x" * size)
        assert (buffer is not None) == (there + size <= most)
        if buffer is not None:
            held.append(buffer[:])  # a view of it holds it as well
        del buffer
        assert allowance.held == sum(len(buffer) for buffer in held) <= most
        if drop and held:
            held.pop(0)
    held.clear()
    assert allowance.held == 0


def test_what_could_not_be_read_is_given_back():
    allowance = Allowance(10)

    def failing():
        raise MissingObjectError("gone")

    with pytest.raises(MissingObjectError):
        allowance.read(10, failing)
    assert allowance.held == 0


@pytest.mark.parametrize("kept", [0, 1, 999, 1000, 1001, 5000, None])
def test_a_large_object_is_compared_in_pieces(place, monkeypatch, kept):
    monkeypatch.setattr(record, "PIECE", 1000)
    monkeypatch.setattr("stillroom.storage.objects.base.PIECE", 1000)
    data = np.random.default_rng(0).bytes(5000)[:kept]
    place.write("object", data + b"more" if kept is None else data)
    for expected in (10, 5000):
        assert ObjectDigest.by_reading(place, "object", expected) == ObjectDigest.of(place.read("object"))
    with pytest.raises(MissingObjectError):
        ObjectDigest.by_reading(place, "other", 5000)
    monkeypatch.setattr(place, "read", None)
    assert ObjectDigest(5000, "").matches(place, "object") is False  # without reading it whole
