"""Bytes that come in order: the same wherever they are held, and as an object."""

import itertools
import os
import uuid
from pathlib import Path

import numpy as np
import pytest

from stillroom.storage.dataset.tar_headers import entries
from stillroom.storage.dataset.webdataset import pack, scan_tar
from stillroom.storage.errors import MissingObjectError
from stillroom.storage.ledger.record import ObjectDigest
from stillroom.storage.objects import local
from stillroom.storage.objects.urls import open_place
from stillroom.storage.spill.byte_spool import Spool

DATA = np.random.default_rng(0).bytes(50_000)
SIZES = (0, 1, 499, 10_240, 3, 20_000, 19_257)
WITHIN = (0, 600, 30_000, len(DATA), 2**30)
"""Bytes in memory: from the first byte on in a file, from some byte on, never."""


def parts():
    ends = list(itertools.accumulate(SIZES))
    assert ends[-1] == len(DATA)
    return [DATA[end - size : end] for size, end in zip(SIZES, ends, strict=True)]


def filled(within):
    made = Spool(within)
    for part in parts():
        made.write(part)
    return made


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path):
    return open_place(str(tmp_path / "there") if request.param == "local" else f"memory://{uuid.uuid4().hex}")


@pytest.mark.parametrize("within", WITHIN)
def test_any_part_of_it_is_what_was_written(within):
    made = filled(within)
    assert len(made) == len(DATA)
    for part in (
        slice(None),
        slice(100, 700),
        slice(-10, None),
        slice(49_000, 60_000),
        slice(7, 7),
        slice(90_000, None),
    ):
        assert made[part] == DATA[part]
    assert made.written == ObjectDigest.of(DATA)


@pytest.mark.parametrize("within", WITHIN)
def test_it_is_in_memory_as_far_as_that_reaches(within):
    before = open_files()
    made = filled(within)
    assert open_files() == before + (within < len(DATA))
    del made
    assert open_files() == before


@pytest.mark.parametrize("within", WITHIN)
def test_as_an_object_it_is_the_same(place, monkeypatch, within):
    monkeypatch.setattr(local, "PIECE", 7_000)
    assert filled(within).write_to(place, "a/b") == ObjectDigest.of(DATA)
    assert place.read("a/b") == DATA
    assert Spool(within).write_to(place, "a/empty") == ObjectDigest.of(b"")
    assert place.size("a/empty") == 0
    assert list(place.list()) == ["a/b", "a/empty"]


def test_it_can_be_written_on_after_it_was_written(place):
    made = filled(2**30)
    made.write_to(place, "a")
    made.write(b"more")
    assert place.read("a") == DATA
    assert made[:] == DATA + b"more"
    assert made.written == ObjectDigest.of(DATA + b"more")


@pytest.mark.parametrize("within", WITHIN)
def test_an_object_is_read_in_one_go_where_it_fits(place, monkeypatch, within):
    monkeypatch.setattr("stillroom.storage.objects.base.PIECE", 7_000)
    place.write("a", DATA)
    whole, ranges = [], []
    read, read_range = place.read, place.read_range
    monkeypatch.setattr(place, "read", lambda name: whole.append(name) or read(name))
    monkeypatch.setattr(place, "read_range", lambda *what: ranges.append(what) or read_range(*what))
    found = Spool.reading(place, "a", within)
    assert (len(whole), len(ranges)) == ((1, 0) if within >= len(DATA) else (0, 8))
    assert found[:] == DATA
    assert found.written == ObjectDigest.of(DATA)


def test_an_object_that_is_not_there_is_named(place):
    with pytest.raises(MissingObjectError, match="/nothing does not exist"):
        Spool.reading(place, "nothing", 10)


@pytest.mark.parametrize("within", [0, 2**30])
def test_tars_are_read_from_it(within):
    samples = [(f"a/{number}", {"jpg": DATA[: number * 999], "cls": b"%d" % number}) for number in range(9)]
    tar = pack(samples, within)
    found = list(scan_tar(tar, "it"))
    assert [item.key for item in found] == [key for key, _ in samples]
    for item, (_, files) in zip(found, samples, strict=True):
        for extension, member in item.members.items():
            assert tar[member.offset : member.offset + member.size] == files[extension]
    assert tar[:] == pack(samples)[:]
    assert list(entries(tar, "it")) == list(entries(tar[:], "it"))


def test_a_full_disk_names_the_folder_for_temporary_files(small_disk, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    made = Spool(600_000)
    made.write(bytes(500_000))
    made.write(bytes(400_000))
    with pytest.raises(OSError, match="No space left on device") as caught:
        made.write(bytes(400_000))
    assert caught.value.filename == str(small_disk)


def test_a_failed_write_of_a_large_object_leaves_the_old_one(tmp_path, monkeypatch):
    place = open_place(str(tmp_path))
    place.write("a", b"old")
    monkeypatch.setattr(local, "PIECE", 7_000)
    write, left = os.write, [3]

    def failing(descriptor, data):
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("os.write", failing)
    with pytest.raises(OSError, match="No space left on device") as caught:
        filled(0).write_to(place, "a")
    assert caught.value.filename == str(tmp_path / "a")
    assert place.read("a") == b"old"
    assert list(place.list()) == ["a"]
