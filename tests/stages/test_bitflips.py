"""A flipped bit or a cut in any file is found and named; a smaller share of the trials of `benchmarks/faults.py`."""

import pytest
from trials import bitflips, touched


@pytest.mark.slow
def test_flips_and_cuts_of_any_file_are_found_by_verify_and_by_the_reader():
    rows = bitflips.measure(count=40, seed=1)
    assert rows
    assert [row for row in rows if not row.ok] == []


def test_damage_after_the_first_touch_is_found_for_every_codec():
    rows = touched.measure(count=30, seed=1)
    assert len(rows) == len(touched.CODECS)
    assert all(row.of for row in rows)
    assert [row for row in rows if not row.ok] == []
