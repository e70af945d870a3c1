"""The ledger: a record is whole or it is not there, and a damaged one is never believed."""

import uuid
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.storage.errors import DamagedObjectError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.base import TEMPORARY
from stillroom.storage.objects.urls import open_place

_text = st.text(st.characters(codec="utf-8"), max_size=12)
_values = st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False) | _text
records = st.builds(
    Record,
    task=st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9.]{0,3}[a-z0-9]){0,3}", fullmatch=True),
    fingerprint=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    objects=st.dictionaries(_text, st.binary(max_size=40).map(ObjectDigest.of), max_size=4),
    facts=st.dictionaries(_text, _values | st.lists(_values, max_size=3), max_size=4),
)


def somewhere():
    return Ledger(open_place(f"memory://{uuid.uuid4().hex}"))


def record(task, **facts):
    return Record(task, "0" * 32, {"a": ObjectDigest.of(b"abc")}, facts)


@settings(max_examples=40)
@given(records)
def test_a_record_comes_back_as_it_was_put(item):
    ledger = somewhere()
    ledger.put(item)
    assert ledger.get(item.task) == item
    assert list(ledger.records()) == [item]


def test_a_task_without_a_record_is_not_done():
    assert somewhere().get("teacher/000000.000000") is None


def test_a_dropped_record_is_gone():
    ledger = somewhere()
    ledger.put(record("a"))
    ledger.drop("a")
    ledger.drop("a")
    assert ledger.get("a") is None
    assert list(ledger.tasks()) == []


def test_putting_again_replaces():
    ledger = somewhere()
    ledger.put(record("a", seconds=1))
    ledger.put(record("a", seconds=2))
    assert [item.facts for item in ledger.records()] == [{"seconds": 2}]


def test_tasks_of_a_folder_are_those_below_it(tmp_path):
    ledger = Ledger(open_place(str(tmp_path)))
    for task in ("t/r18/b", "t/r18/a", "t/r18x/c", "t/r50/d", "seeds"):
        ledger.put(record(task))
    assert list(ledger.tasks("t/r18")) == ["t/r18/a", "t/r18/b"]
    assert sorted(ledger.tasks()) == ["seeds", "t/r18/a", "t/r18/b", "t/r18x/c", "t/r50/d"]
    assert ledger.folders("t") == ["r18", "r18x", "r50"]
    assert ledger.folders("nothing") == []


def test_a_record_that_was_being_written_is_none(tmp_path):
    place = open_place(str(tmp_path))
    ledger = Ledger(place)
    ledger.put(record("t/a"))
    place.write(f"ledger/t/{TEMPORARY}0123456789ab-b.json", b"half a rec")
    assert list(ledger.tasks()) == ["t/a"]
    assert [item.task for item in ledger.records()] == ["t/a"]


def test_a_name_that_looks_temporary_in_the_middle_is_a_name():
    ledger = somewhere()
    ledger.put(record(f"teachers/r18{TEMPORARY}2/blocks/000000.000000"))
    assert list(ledger.tasks("teachers")) == [f"teachers/r18{TEMPORARY}2/blocks/000000.000000"]


@settings(max_examples=40)
@given(records, st.data())
def test_a_changed_byte_is_found(item, data):
    ledger = somewhere()
    ledger.put(item)
    stored = ledger.place.read(ledger.name(item.task))
    where = data.draw(st.integers(0, len(stored) - 1))
    bits = data.draw(st.integers(1, 255))
    ledger.place.write(ledger.name(item.task), stored[:where] + bytes([stored[where] ^ bits]) + stored[where + 1 :])
    # Only the last digit of a long float may change without changing the number.
    with suppress(DamagedObjectError):
        assert ledger.get(item.task) == item


@settings(max_examples=40)
@given(records, st.floats(0, 1, exclude_max=True))
def test_a_record_that_is_cut_short_is_found(item, share):
    ledger = somewhere()
    ledger.put(item)
    stored = ledger.place.read(ledger.name(item.task))
    ledger.place.write(ledger.name(item.task), stored[: int(share * len(stored))])
    with pytest.raises(DamagedObjectError, match="delete it and run the stage again"):
        ledger.get(item.task)


def test_another_tasks_record_in_its_place_is_found():
    ledger = somewhere()
    ledger.put(record("a"))
    ledger.put(record("b"))
    ledger.place.write(ledger.name("a"), ledger.place.read(ledger.name("b")))
    with pytest.raises(DamagedObjectError, match=r"ledger/a\.json"):
        ledger.get("a")
    with pytest.raises(DamagedObjectError, match=r"ledger/a\.json"):
        list(ledger.records())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"digest"', b"{}", b"\xff\xfe\xff", b'{"digest": 3}'])
def test_what_is_no_record_at_all_is_found(data):
    ledger = somewhere()
    ledger.place.write(ledger.name("a"), data)
    with pytest.raises(DamagedObjectError, match=r"ledger/a\.json"):
        ledger.get("a")
