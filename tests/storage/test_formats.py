"""Caches and data sets of every format version that was ever released are read, newer ones refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stillroom.pipeline.rng.seeds import seeds_of, uid_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import SEEDS_TASK
from stillroom.storage.dataset.dataset import DESCRIPTION, WHOLE_TASK, Dataset
from stillroom.storage.errors import MissingObjectError, StillroomError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.urls import open_place

FORMATS = Path(__file__).parents[1] / "fixtures"
CODECS = {"float16", "float32", "int8", "sqrtp", "topk-2", "transform"}


@pytest.fixture(params=["format-1"])
def folder(request):
    return FORMATS / request.param


def test_every_teacher_of_an_old_cache_reads_as_it_did(folder):
    cache = Cache(open_place(str(folder / "cache")))
    expected = np.load(folder / "expected.npz")
    assert set(cache.teachers) == CODECS
    for place in expected.files:
        name, shard, view = place.rsplit(".", 2)
        found = cache.teacher(name).logits(int(shard), int(view))
        assert found.dtype == np.float32
        assert np.array_equal(found, expected[place]), place
    assert len(expected.files) == len(CODECS) * 2 * 4


def test_float32_came_through_as_it_was_made(folder):
    made = np.random.default_rng([3, 1, 1]).normal(0.0, 3.0, (2, 5, 4)).astype(np.float32)
    assert np.array_equal(Cache(open_place(str(folder / "cache"))).teacher("float32").logits(1, 3), made[1, :3])


def test_digests_canaries_evaluation_and_facts_are_there(folder):
    teacher = Cache(open_place(str(folder / "cache"))).teacher("transform")
    assert teacher.digests(0, 1).tolist() == [5, 6, 7, 8, 9]
    (canary,) = teacher.canaries()
    assert canary.pixels.shape == (8, 8, 3)
    assert (canary.pixels == 7).all()
    assert teacher.evaluation().shape == (5, 4)
    record = teacher.ledger.get("teachers/transform/blocks/000001.000001")
    assert record.facts["codec"]["temperatures"] == [1.0, 10.0]


def test_an_old_cache_has_no_plain_views_and_says_how_to_get_them(folder):
    teacher = Cache(open_place(str(folder / "cache"))).teacher("int8")
    assert (teacher.missing_plain(), teacher.plain_crop()) == ([0, 1], None)
    with pytest.raises(MissingObjectError, match=r"set cache.plain = true and run `stillroom teacher`"):
        teacher.plain(1)


def test_an_old_data_set_reads_and_its_seeds_are_still_derived_alike(folder):
    data = Dataset(open_place(str(folder / "data")))
    cache = Cache(open_place(str(folder / "cache")))
    assert data.sizes == (5, 3)
    for shard in range(2):
        index = data.index(shard)
        assert len(data.images(shard, index)) == data.sizes[shard]
        assert index.uid.tolist() == [uid_of(key) for key in index.key]
        assert cache.seeds(shard).tolist() == seeds_of(index.uid, cache.info.root_seed).tolist()


def test_a_newer_cache_is_refused_by_name(folder, tmp_path):
    place = open_place(str(shutil.copytree(folder / "cache", tmp_path / "cache")))
    metadata = json.loads(place.read("zarr.json"))
    metadata["attributes"]["stillroom"]["format"] += 2
    _rewrite(place, SEEDS_TASK, "zarr.json", json.dumps(metadata).encode())
    with pytest.raises(StillroomError, match=r"cache format 3, this stillroom reads 1 and 2; use the version"):
        Cache(place)


def test_a_newer_data_set_is_refused_by_name(folder, tmp_path):
    place = open_place(str(shutil.copytree(folder / "data", tmp_path / "data")))
    description = json.loads(place.read(DESCRIPTION))
    description["format"] += 1
    _rewrite(place, WHOLE_TASK, DESCRIPTION, json.dumps(description).encode())
    with pytest.raises(StillroomError, match=r"has format 2, this stillroom reads 1; use the version that wrote it"):
        Dataset(place)


def _rewrite(place, task, name, data):
    """An object and its record, as a newer version would have left them."""
    record = Ledger(place).get(task)
    place.write(name, data)
    changed = {**record.objects, name: ObjectDigest.of(data)}
    Ledger(place).put(Record(record.task, record.fingerprint, changed, record.facts))
