"""Fingerprints: one form for the same data, and a refusal that names the field and both values."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.storage.errors import FingerprintError, StoreError
from stillroom.storage.ledger.fingerprint import (
    canonical,
    digest,
    fingerprint_digest,
    refuse_difference,
    restated,
    stated,
)

_keys = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=5)
_leaves = st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
fingerprints = st.dictionaries(
    _keys, st.recursive(_leaves, lambda inner: st.dictionaries(_keys, inner, min_size=1, max_size=3), max_leaves=5)
)


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def differs(stored, wanted):
    try:
        refuse_difference("the cache", stored, wanted, "do something")
    except FingerprintError:
        return True
    return False


def test_a_digest_is_the_published_xxh3_128_of_the_bytes():
    assert digest(b"") == "99aa06d3014798d86001c324468d497f"
    assert digest(memoryview(b"abc")) == digest(b"abc") != digest(b"abd")


@settings(max_examples=40)
@given(fingerprints)
def test_the_order_of_keys_does_not_matter(data):
    assert canonical(reversed_keys(data)) == canonical(data)
    assert fingerprint_digest(reversed_keys(data)) == fingerprint_digest(data)


@settings(max_examples=40)
@given(fingerprints)
def test_a_round_trip_through_json_changes_nothing(data):
    assert not differs(json.loads(canonical(data)), data)
    assert canonical(json.loads(canonical(data))) == canonical(data)


@settings(max_examples=40)
@given(fingerprints, fingerprints)
def test_a_difference_is_refused_exactly_where_the_digests_differ(first, second):
    assert differs(first, second) == (fingerprint_digest(first) != fingerprint_digest(second))


def test_a_number_that_json_does_not_have_is_refused():
    with pytest.raises(ValueError, match="Out of range"):
        canonical({"a": float("nan")})


def test_a_tuple_equals_the_list_that_it_becomes_on_disk():
    refuse_difference("the cache", {"area": [0.5, 1.0]}, {"area": (0.5, 1.0)}, "")


def test_the_refusal_names_the_field_both_values_and_what_to_do():
    stored = {"data": "d1", "views": {"flip": True, "area": [0.05, 1.0]}}
    wanted = {"data": "d1", "views": {"flip": True, "area": [0.25, 1.0]}}
    with pytest.raises(FingerprintError) as caught:
        refuse_difference("cache runs/a/cache", stored, wanted, "choose another cache.dir")
    assert str(caught.value) == (
        "cache runs/a/cache was made with views.area = [0.05, 1.0], this run has views.area = [0.25, 1.0]; "
        "choose another cache.dir"
    )
    assert (caught.value.field, caught.value.stored, caught.value.wanted) == ("views.area", [0.05, 1.0], [0.25, 1.0])


@pytest.mark.parametrize(("stored", "wanted"), [({"hue": 0.1}, {}), ({}, {"hue": 0.1})])
def test_a_field_that_only_one_side_has_is_a_difference(stored, wanted):
    with pytest.raises(FingerprintError) as caught:
        refuse_difference("the cache", stored, wanted, "")
    assert caught.value.field == "hue"
    assert {caught.value.stored, caught.value.wanted} == {None, 0.1}


@settings(max_examples=60)
@given(fingerprints, st.data())
def test_a_field_that_came_later_changes_no_fingerprint_where_it_says_what_its_absence_says(fields, data):
    later = {name: fields[name] for name in fields if data.draw(st.booleans())}
    before = {name: value for name, value in fields.items() if name not in later}
    assert fingerprint_digest(stated(fields, later)) == fingerprint_digest(before)
    assert restated("it", before, fields, later) == fields


def test_a_field_that_came_later_is_stated_where_it_says_something_else():
    later = {"blur": 0.0}
    assert stated({"flip": True, "blur": 0.5}, later) == {"flip": True, "blur": 0.5}
    assert stated({"flip": True, "blur": 0.0}, later) == {"flip": True}
    assert restated("it", {"flip": True, "blur": 0.5}, ("flip", "blur"), later) == {"flip": True, "blur": 0.5}


def test_a_field_of_a_newer_version_is_refused_by_name_and_a_missing_one_too():
    with pytest.raises(StoreError, match=r"the recipe has blur = 0.5, which this version of stillroom does not know"):
        restated("the recipe", {"flip": True, "blur": 0.5}, ("flip",), {})
    with pytest.raises(StoreError, match=r"the recipe does not say flip; it is none that stillroom wrote"):
        restated("the recipe", {}, ("flip", "blur"), {"blur": 0.0})
