"""Places: what every kind must do, and what a folder must do when a write does not come to its end."""

import errno
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stillroom.storage.errors import MissingObjectError, StoreError
from stillroom.storage.objects.base import TEMPORARY
from stillroom.storage.objects.local import LocalPlace
from stillroom.storage.objects.remote import RemotePlace
from stillroom.storage.objects.urls import open_place


@pytest.fixture(params=["local", "remote", "s3"])
def place(request, tmp_path):
    if request.param == "local":
        return open_place(str(tmp_path / "place"))
    if request.param == "s3":
        return open_place(f"{request.getfixturevalue('bucket')}/place")
    return open_place(f"memory://{uuid.uuid4().hex}/place")


def fill(place, *names):
    for name in names:
        place.write(name, name.encode())


# What every place does


def test_each_url_opens_its_kind_of_place(tmp_path):
    assert isinstance(open_place(str(tmp_path)), LocalPlace)
    assert isinstance(open_place(f"file://{tmp_path}"), LocalPlace)
    assert isinstance(open_place("memory://somewhere"), RemotePlace)


def test_what_was_written_is_read_back_whole(place):
    data = bytes(range(256)) * 100
    place.write("a/b/c.bin", data)
    assert place.read("a/b/c.bin") == data
    assert place.size("a/b/c.bin") == len(data)


def test_an_empty_object_is_an_object(place):
    place.write("empty", b"")
    assert place.read("empty") == b""
    assert place.size("empty") == 0
    assert list(place.list()) == ["empty"]


def test_a_memoryview_is_written_like_its_bytes(place):
    place.write("view", memoryview(b"0123456789")[2:5])
    assert place.read("view") == b"234"


def test_writing_again_replaces(place):
    place.write("a", b"a longer first version")
    place.write("a", b"second")
    assert place.read("a") == b"second"
    assert place.size("a") == 6
    assert list(place.list()) == ["a"]


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 3), (4, 9), (9, 10), (7, 99), (10, 12), (3, 3)])
def test_a_range_is_a_slice_of_the_bytes(place, start, stop):
    place.write("digits", b"0123456789")
    assert place.read_range("digits", start, stop) == b"0123456789"[start:stop]


def test_an_object_opens_as_a_seekable_file(place):
    place.write("digits", b"0123456789")
    with place.open("digits") as file:
        file.seek(6)
        assert file.read(2) == b"67"
        file.seek(0)
        assert file.read() == b"0123456789"


@pytest.mark.parametrize("ask", ["read", "read_range", "open"])
def test_a_missing_object_is_named(place, ask):
    place.write("there", b"x")
    with pytest.raises(MissingObjectError) as caught:
        getattr(place, ask)("not/there", *((0, 1) if ask == "read_range" else ()))
    assert f"{place}/not/there" in str(caught.value)


def test_the_size_of_nothing_is_none(place):
    assert place.size("nothing") is None
    place.write("a", b"x")
    assert place.size("a/below") is None


def test_a_folder_is_no_object(place):
    place.write("folder/object", b"x")
    with pytest.raises(MissingObjectError):
        place.read("folder")
    assert place.size("folder") is None


def test_a_list_is_sorted_by_name(place):
    names = ["z", "a/2", "a/1", "a-b/1", "a.json", "m/n/o"]
    fill(place, *names)
    assert list(place.list()) == sorted(names)


def test_a_list_of_a_folder_leaves_its_namesakes_out(place):
    fill(place, "a/1", "a/b/2", "ab/3", "a.json")
    assert list(place.list("a")) == ["a/1", "a/b/2"]
    assert list(place.list("nowhere")) == []


def test_nothing_is_listed_before_anything_is_written(place):
    assert list(place.list()) == []
    assert place.folders() == []


def test_folders_are_those_directly_below(place):
    fill(place, "teachers/b/x", "teachers/a/blocks/y", "teachers/file", "other/z")
    assert place.folders("teachers") == ["a", "b"]
    assert place.folders() == ["other", "teachers"]
    assert place.folders("nowhere") == []


def test_what_is_deleted_is_gone_and_may_be_deleted_again(place):
    fill(place, "a", "b")
    place.delete("a")
    place.delete("a")
    place.delete("never")
    assert list(place.list()) == ["b"]


def test_an_object_that_holds_something_else_is_not_deleted(place):
    fill(place, "a")
    place.delete("a", b"b")
    assert place.read("a") == b"a"
    place.delete("a", b"a")
    place.delete("a", b"a")
    assert list(place.list()) == []


def test_what_is_there_is_not_created_again(place):
    assert place.create("a/b", b"first")
    assert not place.create("a/b", b"second")
    assert place.read("a/b") == b"first"


def test_of_many_at_once_one_creates(place):
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            won = list(pool.map(lambda n, name=f"{number}": place.create(name, b"%d" % n), range(8)))
            assert sum(won) == 1
            assert place.read(f"{number}") == b"%d" % won.index(True)


def test_a_range_of_nothing_is_missing(place):
    with pytest.raises(MissingObjectError):
        place.read_range("nothing", 3, 3)


def test_a_place_below_names_its_objects_from_there(place):
    fill(place, "a/b/c")
    below = place.at("a/b")
    assert below.read("c") == b"a/b/c"
    assert list(below.list()) == ["c"]
    assert str(below) == f"{place}/a/b"


@pytest.mark.parametrize("name", ["with space", "héllo/wörld", "100%25", "a#b?c", "[x]*.{y}"])
def test_names_are_taken_as_they_are(place, name):
    place.write(name, b"x")
    assert place.read(name) == b"x"
    assert list(place.list()) == [name]


def test_only_a_folder_has_paths(place):
    path = place.local("a")
    assert (path is not None) == isinstance(place, LocalPlace)


@pytest.mark.parametrize("url", ["nosuch://bucket/prefix", "s4://x"])
def test_an_unknown_protocol_is_named(url):
    with pytest.raises(StoreError, match=url):
        open_place(url)


# A write that does not come to its end


def test_a_failing_write_leaves_the_old_object_and_no_temporary_file(tmp_path):
    place = LocalPlace(tmp_path)
    place.write("a", b"old")
    # Not contiguous, so the write itself fails, with the new file open.
    with pytest.raises(BufferError):
        place.write("a", memoryview(b"new and longer")[::2])
    assert place.read("a") == b"old"
    assert list(place.list()) == ["a"]


def test_a_full_disk_leaves_the_old_object_and_no_temporary_file(small_disk, fill_disk):
    place = LocalPlace(small_disk)
    place.write("a", b"old")
    ballast = fill_disk(small_disk, 64 << 10)
    with pytest.raises(OSError, match="No space left") as caught:
        place.write("a", bytes(200 << 10))
    assert caught.value.errno == errno.ENOSPC
    assert place.read("a") == b"old"
    assert list(place.list()) == ["a", "ballast"]
    ballast.unlink()
    place.write("a", bytes(200 << 10))
    assert place.size("a") == 200 << 10


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_a_killed_write_leaves_the_old_object_whole(tmp_path, moment):
    place = LocalPlace(tmp_path)
    # `storage` alone, as a package of its own: the rest takes seconds to import.
    program = f"""
import os, pathlib, signal
from stillroom.storage.objects.local import LocalPlace
place = LocalPlace(pathlib.Path({str(tmp_path)!r}))
place.write("a", b"old")
{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
place.write("a", b"new" * 100_000)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert place.read("a") == b"old"
    left = [name for name in place.list() if name != "a"]
    assert len(left) == 1
    assert left[0].startswith(TEMPORARY)


def test_a_reader_never_finds_a_part(tmp_path):
    place = LocalPlace(tmp_path)
    versions = [bytes([number]) * (1 << 18) for number in range(4)]
    place.write("a", versions[0])
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for version in versions:
                place.write("a", version)

    writer = threading.Thread(target=write)
    writer.start()
    found, reads, until = set(), 0, time.monotonic() + 120
    try:
        # Until it has met every version: a disk may take its time over a write.
        while reads < 300 or len(found) < len(versions):
            assert time.monotonic() < until, "the reader saw too few changes: this proved nothing"
            found.add(place.read("a"))
            reads += 1
    finally:
        stop.set()
        writer.join()
    assert found == set(versions)
