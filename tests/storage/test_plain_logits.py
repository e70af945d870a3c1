"""Logits of plain views at the level of storage: what is written comes back, what is not asked for is named."""

import numpy as np
import pytest
from trials import plaincache

from stillroom.storage.cache import layout
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import claim_of, claim_of_task, plain_layout_task, plain_task, written_by
from stillroom.storage.errors import FingerprintError, MissingObjectError
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.local import LocalPlace
from stillroom.storage.writers.plain_view import PlainWriter


@pytest.fixture
def place(tmp_path):
    """A finished cache without plain views."""
    return plaincache.whole(tmp_path / "cache")


def writer(place, crop=0.875, codec="float32"):
    return PlainWriter(plaincache.writer(place, codec=codec), crop)


def written(place, shards=range(3), **changes):
    its = writer(place, **changes)
    its.lay_out()
    for shard in shards:
        its.write(shard, plaincache.logits_of(shard, 99), {"views": plaincache.SIZES[shard]})
    return its


def test_what_is_written_comes_back(place):
    written(place)
    teacher = Cache(place).teacher("t")
    for shard in range(3):
        assert np.array_equal(teacher.plain(shard), plaincache.logits_of(shard, 99))


def test_a_view_of_many_chunks_is_cut_by_slots(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "CHUNK_LIMIT", 2 * plaincache.CLASSES * 4)
    place = plaincache.whole(tmp_path / "cache")
    its = written(place)
    assert its.teacher.layout.chunk_slots(plaincache.CLASSES) == 2
    teacher = Cache(place).teacher("t")
    for shard in range(3):
        assert np.array_equal(teacher.plain(shard), plaincache.logits_of(shard, 99))
    assert Ledger(place).get(plain_task("t", 0)).facts["codec"]["chunks"] == 3


def test_what_is_not_done_is_missing_and_named(place):
    written(place, shards=[0, 2])
    teacher = Cache(place).teacher("t")
    assert teacher.missing_plain() == [1]
    with pytest.raises(MissingObjectError, match=r"plain views of data shard 1; set cache.plain = true and run"):
        teacher.plain(1)


def test_no_data_shard_is_written_before_the_layout_nor_into_another(place):
    rows = plaincache.logits_of(0, 99)
    with pytest.raises(MissingObjectError, match=r"not laid out for plain views; run `stillroom teacher`"):
        writer(place).write(0, rows, {})
    writer(place).lay_out()
    before = {name: place.read(name) for name in place.list()}
    with pytest.raises(FingerprintError, match=r"data.eval_crop = 0.875, this run has data.eval_crop = 0.5"):
        writer(place, crop=0.5).write(0, rows, {})
    assert {name: place.read(name) for name in place.list()} == before


def test_the_layout_writes_nothing_of_the_groups_above_it(tmp_path):
    place = LocalPlace(tmp_path / "cache")
    plaincache.create(place)
    writer(place).lay_out()
    assert list(place.list("teachers/t")) == ["teachers/t/plain/zarr.json"]
    assert Cache(place).teachers == ()
    assert plaincache.writer(place).lay_out().objects.keys().isdisjoint({"teachers/t/plain/zarr.json"})
    assert Cache(place).teachers == ("t",)


def test_records_list_what_their_tasks_must_write_and_claims_are_their_names(place):
    its = written(place)
    records = list(Ledger(place).records("teachers/t/plain"))
    assert {record.task for record in records} == {plain_layout_task("t"), *(plain_task("t", n) for n in range(3))}
    for record in records:
        assert written_by(its.teacher.layout, record.task) == record.objects.keys()
        assert claim_of_task(record.task) == record.task
        assert {claim_of(its.teacher.layout, name) for name in record.objects} == {record.task}
    for name in ("teachers/t/plain/c", "teachers/t/plain/c/0", "teachers/t/plain/x", "teachers/t/plain"):
        assert claim_of(its.teacher.layout, name) is None
