"""A pilot in the cache: it comes back as it was written, and what is not as it was written is refused by name."""

import numpy as np
import pytest
from codec_logits import CLASSES, teacher_logits

from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.codecs.registry import fidelity, fit
from stillroom.storage.errors import DamagedObjectError, FingerprintError, MissingObjectError
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.urls import open_place
from stillroom.storage.writers import block as blockwriter
from stillroom.storage.writers.loss_summary import FACTS
from stillroom.storage.writers.pilot import Pilot, read_pilot, read_transform, write_pilot
from stillroom.storage.writers.teacher import TeacherWriter

SIZES = (40, 25)
VIEWS = {"data": "d"}


@pytest.fixture
def place(tmp_path):
    place = open_place(str(tmp_path / "cache"))
    info = CacheInfo({"flip": True}, 1, VIEWS, SIZES, 2)
    create_cache(place, info, [np.arange(size, dtype=np.uint64) for size in SIZES])
    return place


@pytest.fixture
def pilot():
    places = np.stack(np.meshgrid([0, 1], range(25), range(12), indexing="ij"), -1).reshape(-1, 3).astype(np.int32)
    return Pilot(teacher_logits(600, seed=1), places)


def written(place, pilot, model):
    write_pilot(Ledger(place), "t", "fingerprint", pilot, model, {"rows": len(pilot.logits)})
    return Cache(place)


def transform_writer(place, model, **changes):
    settings = {"temperatures": list(model.temperatures), "max_kl": model.max_kl, **changes}
    info = TeacherInfo({"model": "m"}, CLASSES, 4, "transform", (), {"model": model.digest, "cache": settings})
    return TeacherWriter(Ledger(place), Cache(place).layout, "t", info, VIEWS, 4, model, model.temperatures)


def block(shard):
    rows = teacher_logits(2 * SIZES[shard], seed=3)
    return rows.reshape(2, SIZES[shard], CLASSES), np.zeros((2, SIZES[shard]), np.uint16)


def test_a_pilot_and_its_model_come_back_as_they_were_written(place, pilot, transform_model):
    cache = written(place, pilot, transform_model)
    found = read_pilot(cache, "t")
    assert np.array_equal(found.logits, pilot.logits)
    assert np.array_equal(found.places, pilot.places)
    assert read_transform(cache, "t").digest == transform_model.digest


def test_rows_of_one_sample_are_one_group(pilot):
    groups = pilot.groups
    assert len(np.unique(groups)) == 50
    same = (pilot.places[:, None, :2] == pilot.places[None, :, :2]).all(axis=2)
    assert np.array_equal(same, groups[:, None] == groups[None])


def test_a_pilot_alone_is_no_teacher_and_does_not_hinder_one(place, pilot, transform_model):
    cache = written(place, pilot, transform_model)
    assert cache.teachers == ()
    assert {name.split("/pilot/")[0] for name in place.list("teachers")} == {"teachers/t", "teachers/zarr.json"}
    its = transform_writer(place, transform_model)
    its.lay_out()
    blockwriter.write_block(its, 0, 0, *block(0), {}, {"views": 80})
    assert Cache(place).teachers == ("t",)
    assert read_transform(Cache(place), "t").digest == transform_model.digest


def test_no_pilot_is_said_to_be_missing(place):
    with pytest.raises(MissingObjectError, match="no pilot of teacher 't'"):
        read_pilot(Cache(place), "t")


@pytest.mark.parametrize("name", ["logits/c/0/0", "places/c/0/0", "model/c/0"])
def test_one_flipped_bit_of_a_pilot_is_found_and_named(place, pilot, transform_model, name):
    cache = written(place, pilot, transform_model)
    whole = f"teachers/t/pilot/{name}"
    data = bytearray(place.read(whole))
    data[len(data) // 2] ^= 1
    place.write(whole, bytes(data))
    with pytest.raises(DamagedObjectError, match=whole):
        read_pilot(cache, "t") and read_transform(cache, "t")


def test_a_missing_object_of_a_pilot_is_named(place, pilot, transform_model):
    written(place, pilot, transform_model)
    place.delete("teachers/t/pilot/model/c/0")
    with pytest.raises(MissingObjectError, match="teachers/t/pilot/model/c/0 is missing"):
        read_transform(Cache(place), "t")


def test_blocks_of_a_transform_are_within_its_bound_to_every_reader(place, transform_model):
    its = transform_writer(place, transform_model)
    its.lay_out()
    logits, digests = block(1)
    blockwriter.write_block(its, 1, 0, logits, digests, {}, {"views": 50})
    read = np.stack([Cache(place).teacher("t").logits(1, view) for view in (0, 1)])
    lost = Ledger(place).get("teachers/t/blocks/000001.000000").facts[FACTS]
    found = fidelity(logits, read, (1, 2, 5, 10))
    assert max(item.mean for item in found) <= transform_model.max_kl
    assert lost["temperatures"] == [item.temperature for item in found]
    np.testing.assert_allclose(lost["kl_mean"], [item.mean for item in found], atol=2e-5)
    np.testing.assert_allclose(lost["kl_p99"], [item.p99 for item in found], atol=1e-4)
    np.testing.assert_allclose(lost["kl_max"], [item.worst for item in found], atol=1e-4)
    assert lost["top1"] == pytest.approx(found[0].top1, abs=1e-6)
    assert lost["bytes_per_view"] == pytest.approx(place.size("teachers/t/logits/c/1/0/0/0") / 50, abs=1e-4)


@pytest.mark.parametrize(("scale", "exact"), [(6.0, 0), (30.0, 80)])
def test_a_teacher_that_left_its_pilot_is_stored_finer_or_exactly_and_counted(place, transform_model, scale, exact):
    its = transform_writer(place, transform_model)
    its.lay_out()
    logits, digests = block(0)
    at_home = blockwriter.write_block(its, 0, 0, logits, digests, {}, {}).facts[FACTS]
    away = (np.random.default_rng(0).standard_normal(logits.shape) * scale).astype(np.float32)
    lost = blockwriter.write_block(its, 0, 1, away, digests, {}, {}).facts[FACTS]
    assert lost["exact"] == exact
    assert exact or lost["refine_max"] > 2 * at_home["refine_max"]
    assert lost["bytes_per_view"] > 2 * at_home["bytes_per_view"]
    read = np.stack([Cache(place).teacher("t").logits(0, view) for view in (2, 3)])
    assert max(item.mean for item in fidelity(away, read)) <= transform_model.max_kl


def test_an_array_that_is_laid_out_for_another_transform_gets_no_block(place, transform_model):
    transform_writer(place, transform_model).lay_out()
    other = fit(teacher_logits(600, seed=9))
    assert other.digest != transform_model.digest
    before = sorted(place.list())
    with pytest.raises(FingerprintError, match=f"model = '{transform_model.digest}', this run has .*{other.digest}"):
        blockwriter.write_block(transform_writer(place, other), 0, 0, *block(0), {}, {})
    assert sorted(place.list()) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_kl": 0.05}, r"cache.max_kl = 0.02, this run has cache.max_kl = 0.05"),
        (
            {"temperatures": [1.0]},
            r"cache.temperatures = \[1.0, 2.0, 5.0, 10.0\], this run has cache.temperatures = \[1.0\]",
        ),
    ],
)
def test_another_bound_or_other_temperatures_are_refused_by_name(place, transform_model, changes, said):
    its = transform_writer(place, transform_model)
    its.lay_out()
    with pytest.raises(FingerprintError, match=said):
        transform_writer(place, transform_model, **changes).refuse_other_teacher(Cache(place).teacher("t").info)


def test_another_codec_is_named_before_what_belongs_to_it(place, transform_model):
    transform_writer(place, transform_model).lay_out()
    plain = TeacherInfo({"model": "m"}, CLASSES, 4, "float16", ())
    its = TeacherWriter(Ledger(place), Cache(place).layout, "t", plain, VIEWS, 4)
    with pytest.raises(FingerprintError, match="codec = 'transform', this run has codec = 'float16'"):
        its.refuse_other_teacher(Cache(place).teacher("t").info)
