"""The order of a commit, call by call: an object is durable under its own name before the next step begins."""

import errno
import itertools
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from trials.onetask import TASK, OneTask
from trials.watched import Fail, watching

from stillroom.storage.ledger.claims import Claims
from stillroom.storage.objects import local
from stillroom.storage.objects.local import LocalPlace

OBJECT = ["open", "write", "fsync", "close", "replace", "open folder", "fsync folder", "close folder"]
CLAIM = ["open", "write", "fsync", "close", "link", "unlink", "open folder", "fsync folder", "close folder"]


def told(call):
    return f"{call.operation} folder" if call.folder else call.operation


def by_object(calls, root):
    """Runs of calls about the same object, in order; its folder's go with it."""
    groups = []
    for call in calls:
        if call.operation == "mkdir" or (call.folder and not groups):
            continue
        name = groups[-1][0] if call.folder else call.target.removeprefix(f"{root}/")
        if not groups or groups[-1][0] != name or told(call) == "open":
            groups.append((name, []))
        groups[-1][1].append(call)
    return groups


@pytest.fixture
def cache(tmp_path):
    made = OneTask(tmp_path / "cache")
    made.create()
    return made


def test_a_task_writes_each_object_durably_then_its_record_then_gives_back_its_claim(cache):
    # All folders are there and durable, so that only the commit itself is seen.
    cache.finish(1, Claims())
    with watching() as calls:
        cache.finish(2, Claims(), again=True)
    groups = by_object(calls, cache.folder)
    claim = f"ledger/{TASK}.claim"
    assert [name for name, _ in groups] == [
        claim,
        "teachers/t/logits/c/0/0/0/0",
        "teachers/t/digests/c/0/0/0",
        "teachers/t/canaries/c/0/0/0/0",
        f"ledger/{TASK}.json",
        claim,
    ]
    for name, group in groups[1:-1]:
        assert [told(call) for call in group] == OBJECT, name
        folder = f"{cache.folder}/{name}".rpartition("/")[0]
        assert {call.path for call in group if call.folder} == {folder}
        assert all(call.temporary for call in group[:4])
    assert [told(call) for call in groups[0][1]] == CLAIM
    assert [told(call) for call in groups[-1][1]] == ["unlink"]


def test_a_new_folder_is_durable_in_its_parent_before_anything_is_written_into_it(tmp_path):
    with watching() as calls:
        LocalPlace(tmp_path / "place").write("one/two/object", b"x")
    made = [(place, call.path) for place, call in enumerate(calls) if call.operation == "mkdir"]
    assert [path for _, path in made] == [str(tmp_path / name) for name in ("place", "place/one", "place/one/two")]
    for place, path in made:
        following = [(told(call), call.path) for call in calls[place + 1 : place + 4]]
        parent = path.rpartition("/")[0]
        assert following == [(told_, parent) for told_ in ("open folder", "fsync folder", "close folder")]


def test_a_folder_that_another_process_made_is_made_durable_once(tmp_path):
    """That process may have been killed before it could see to it."""
    (tmp_path / "one").mkdir()
    place = LocalPlace(tmp_path)
    synced = []
    for _ in range(2):
        with watching() as calls:
            place.write("one/object", b"x")
        synced.append([call.path for call in calls if told(call) == "fsync folder"])
    assert str(tmp_path) in synced[0]
    assert synced[1] == [str(tmp_path / "one")]


def test_what_is_created_is_durable_under_its_own_name(tmp_path):
    """`unseal` restores records by `create`, and then deletes the parts that held them."""
    place = LocalPlace(tmp_path)
    place.write("first", b"the folder itself is durable from here on")
    with watching() as calls:
        assert place.create("object", b"x")
    assert [told(call) for call in calls] == CLAIM


def test_what_is_created_where_there_are_no_links_is_durable_too(tmp_path, monkeypatch):
    """As on a mounted bucket."""
    place, synced = LocalPlace(tmp_path), []
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EPERM, "Operation not permitted")))
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    assert place.create("object", b"x")
    assert synced[-2:] == [str(tmp_path / "object"), str(tmp_path)]
    assert not place.create("object", b"y")
    assert place.read("object") == b"x"


def test_what_could_not_be_made_durable_is_not_created(tmp_path):
    """A claim that stays would keep everybody out for as long as its writer lives, who does not know of it."""
    place = LocalPlace(tmp_path)
    place.write("first", b"x")
    with watching(Fail("fsync", 1, errno.EIO)), pytest.raises(OSError, match="Input/output"):
        place.create("object", b"x")
    assert list(place.list()) == ["first"]


def test_the_first_layout_writes_its_record_last_and_a_larger_one_first(tmp_path):
    cache = OneTask(tmp_path)
    with watching() as calls:
        cache.create()
    replaced = [call.target.removeprefix(f"{tmp_path}/") for call in calls if call.operation == "replace"]
    seeds, first = (list(group) for _, group in itertools.groupby(replaced, lambda name: "teachers/t" in name))
    assert seeds[-1] == "ledger/seeds.json"
    assert first[-1] == "ledger/teachers/t/layout/000002.json"
    with watching() as calls:
        cache.writer(views=4).lay_out()
    replaced = [call.target.removeprefix(f"{tmp_path}/") for call in calls if call.operation == "replace"]
    assert replaced[0] == "ledger/teachers/t/layout/000004.json"
    assert len(replaced) == len(first)


def test_a_place_that_cannot_be_listed_is_not_an_empty_one(tmp_path, monkeypatch):
    place = LocalPlace(tmp_path)
    place.write("folder/object", b"x")
    assert list(place.list("nowhere")) == []

    def broken(folder):
        raise OSError(5, "Input/output error", folder)

    monkeypatch.setattr(local.os, "scandir", broken)
    with pytest.raises(OSError, match="Input/output error"):
        list(place.list("folder"))
