"""The checker's own test: planted damage that `verify` does not see, or `--repair` does not mend, fails the build."""

import pytest
from trials import planted


@pytest.mark.slow
def test_planted_damage_is_seen_and_repaired_by_exactly_the_tasks_it_hit():
    rows = planted.measure(count=3)
    assert rows
    assert [row for row in rows if not row.ok] == []
