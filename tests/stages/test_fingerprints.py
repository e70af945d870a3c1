"""A half-filled cache meets other settings, weights or files: each is refused by name, and nothing is written."""

import pytest
from trials import fingerprints


@pytest.mark.slow
def test_every_other_setting_is_refused_by_name_and_nothing_is_written():
    rows = fingerprints.measure()
    assert sum(row.of for row in rows) >= 10
    assert [row for row in rows if not row.ok] == []
