"""Missing, empty, swapped, duplicated, half-filled and foreign shards are found by `verify` and by the reader."""

import pytest
from trials import wrong_shards


@pytest.mark.slow
def test_every_kind_of_wrong_shard_is_found_by_both():
    rows = wrong_shards.measure()
    assert sum(row.of for row in rows) >= 2 * 6 * 3
    assert [row for row in rows if not row.ok] == []
