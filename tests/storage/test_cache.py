"""The cache: what was written comes back, what was not written never does, and growing rewrites nothing."""

import uuid

import numpy as np
import pytest
import xarray
import zarr

from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache, open_cache
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.errors import (
    DamagedObjectError,
    FingerprintError,
    MissingObjectError,
    StillroomError,
    StoreError,
)
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest
from stillroom.storage.objects.urls import open_place
from stillroom.storage.writers import block as blockwriter
from stillroom.storage.writers.teacher import TeacherWriter

SIZES = (5, 3, 4)
CLASSES = 3
BLOCK = 2
CANARY = (4, 4, 3)


def info(**changes):
    views = {"data": "d1", "views": {"flip": True}, "views.seed": "7", "renderer": {"backend": "dali-cpu"}}
    whole = {
        "recipe": {"flip": True},
        "root_seed": 2**64 - 3,
        "views": views,
        "sizes": SIZES,
        "views_per_block": BLOCK,
    }
    return CacheInfo(**(whole | changes))


def seeds_of(shard):
    return np.random.default_rng(shard).integers(0, 2**64, SIZES[shard], np.uint64)


def logits_of(shard, block, seed=0):
    rng = np.random.default_rng([seed, shard, block])
    return rng.normal(size=(BLOCK, SIZES[shard], CLASSES)).astype(np.float32)


def digests_of(shard, block, seed=0):
    return np.random.default_rng([9, seed, shard, block]).integers(0, 2**16, (BLOCK, SIZES[shard]), np.uint16)


def canary_of(number):
    return np.full(CANARY, 10 + number, np.uint8)


def writer(place, name="r18", views=4, codec="float32", canaries=(1, 0, 2), **fingerprint):
    about = TeacherInfo({"model": "m", "weights": "w", **fingerprint}, CLASSES, CANARY[0], codec, canaries)
    return TeacherWriter(Ledger(place), info().layout, name, about, info().views, views)


def write_block(its, shard, block, logits=None, digests=None, seed=0):
    canaries = {number: canary_of(number) for number, _, _ in its.canaries_of(shard, block)}
    logits = logits_of(shard, block, seed) if logits is None else logits
    digests = digests_of(shard, block, seed) if digests is None else digests
    return blockwriter.write_block(its, shard, block, logits, digests, canaries, {})


def write_all(its, first_block=0, seed=0):
    for block in range(first_block, its.views // BLOCK):
        for shard in range(len(SIZES)):
            write_block(its, shard, block, seed=seed)


def create(place):
    create_cache(place, info(), [seeds_of(shard) for shard in range(len(SIZES))])
    return place


def create_whole(place):
    its = writer(create(place))
    its.lay_out()
    write_all(its)
    return place


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path):
    url = str(tmp_path / "cache") if request.param == "local" else f"memory://{uuid.uuid4().hex}/cache"
    return open_place(url)


@pytest.fixture
def whole(place):
    return create_whole(place)


@pytest.fixture
def folder(tmp_path):
    return create_whole(open_place(str(tmp_path / "cache")))


def objects(place, under=""):
    return {name: place.read(name) for name in place.list(under)}


def flip(place, name, where=-1):
    data = bytearray(place.read(name))
    data[where] ^= 1
    place.write(name, bytes(data))


def read_everything(place):
    cache = Cache(place)
    for shard in range(len(SIZES)):
        cache.seeds(shard)
    teacher = cache.teacher("r18")
    for shard in range(len(SIZES)):
        for view in range(teacher.views):
            teacher.logits(shard, view)
            teacher.digests(shard, view)
    teacher.canaries()


# What was written comes back


def test_a_cache_says_what_it_was_made_from(place):
    create(place)
    assert Cache(place).info == info()
    assert Cache(place).teachers == ()


def test_seeds_keep_all_64_bits(place):
    create(place)
    cache = Cache(place)
    for shard, size in enumerate(SIZES):
        found = cache.seeds(shard)
        assert found.dtype == np.uint64
        assert len(found) == size
        assert np.array_equal(found, seeds_of(shard))


def test_logits_and_digests_of_every_view_come_back(whole):
    teacher = Cache(whole).teacher("r18")
    assert teacher.views == 4
    assert teacher.missing(4) == []
    for shard in range(len(SIZES)):
        for view in range(4):
            block, row = divmod(view, BLOCK)
            assert teacher.logits(shard, view).dtype == np.float32
            assert np.array_equal(teacher.logits(shard, view), logits_of(shard, block)[row])
            assert np.array_equal(teacher.digests(shard, view), digests_of(shard, block)[row])


def test_canaries_come_back_with_their_places(whole):
    found = Cache(whole).teacher("r18").canaries()
    assert [(item.shard, item.view, item.slot) for item in found] == [(0, 0, 1), (1, 0, 0), (2, 0, 2)]
    assert all(np.array_equal(item.pixels, canary_of(number)) for number, item in enumerate(found))


def test_a_cache_without_canaries_is_a_cache(place):
    its = writer(create(place), canaries=())
    its.lay_out()
    write_all(its)
    assert Cache(place).teacher("r18").canaries() == []


def test_logits_on_the_evaluation_set_come_back(whole):
    logits = np.random.default_rng(1).normal(size=(11, CLASSES)).astype(np.float32)
    with pytest.raises(MissingObjectError, match="no logits on the evaluation set"):
        Cache(whole).teacher("r18").evaluation()
    writer(whole).write_evaluation({"data": "e1"}, logits, {})
    assert np.array_equal(Cache(whole).teacher("r18").evaluation(), logits)
    writer(whole).write_evaluation({"data": "e2"}, logits[:4] + 1, {})
    assert np.array_equal(Cache(whole).teacher("r18").evaluation(), logits[:4] + 1)


@pytest.mark.parametrize("codec", ["float32", "float16"])
def test_logits_that_are_all_zero_are_logits(place, codec):
    its = writer(create(place), codec=codec)
    its.lay_out()
    for shard in range(len(SIZES)):
        write_block(
            its,
            shard,
            0,
            np.zeros((BLOCK, SIZES[shard], CLASSES), np.float32),
            np.zeros((BLOCK, SIZES[shard]), np.uint16),
        )
    teacher = Cache(place).teacher("r18")
    for shard, size in enumerate(SIZES):
        for view in range(BLOCK):
            assert np.array_equal(teacher.logits(shard, view), np.zeros((size, CLASSES)))
            assert np.array_equal(teacher.digests(shard, view), np.zeros(size))


def test_float16_logits_are_the_nearest_float16(place):
    its = writer(create(place), codec="float16")
    its.lay_out()
    write_block(its, 0, 0)
    expected = logits_of(0, 0).astype(np.float16).astype(np.float32)
    assert np.array_equal(Cache(place).teacher("r18").logits(0, 1), expected[1])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_logits_that_the_codec_cannot_hold_are_refused(place):
    """Finite ones, which would come back as infinity when it is too late."""
    its = writer(create(place), codec="float16")
    its.lay_out()
    logits = logits_of(0, 0)
    logits[1, 2, 0] = 1e5
    with pytest.raises(StillroomError, match=r"\(1e\+05\) does not fit into float16"):
        write_block(its, 0, 0, logits)
    assert Cache(place).teacher("r18").missing(2) == [(0, 0), (1, 0), (2, 0)]


def test_a_view_of_many_classes_is_cut_by_slots_and_reads_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("stillroom.storage.cache.layout.CHUNK_LIMIT", 2 * CLASSES * 4)  # two slots a chunk
    place = create_whole(open_place(str(tmp_path)))
    array = zarr.open_group(str(tmp_path), mode="r")["teachers/r18/logits"]
    assert array.chunks == (1, 1, 2, CLASSES)
    assert array.shards == (1, BLOCK, 6, CLASSES)
    teacher = Cache(place).teacher("r18")
    for shard in range(len(SIZES)):
        assert np.array_equal(teacher.logits(shard, 3), logits_of(shard, 1)[1])


# Other people's tools


def test_xarray_opens_it_with_names_for_every_axis(folder):
    with xarray.open_zarr(str(folder), group="teachers/r18", consolidated=False) as found:
        assert found["logits"].dims == ("shard", "view", "slot", "class")
        assert found["digests"].dims == ("shard", "view", "slot")
        assert found["canaries"].dims == ("canary", "height", "width", "channel")
        assert dict(found.sizes) | {"shard": 3, "view": 4, "slot": 5, "class": CLASSES} == dict(found.sizes)
        mean = found["logits"].isel(shard=0, view=2).mean("slot").values
        np.testing.assert_allclose(mean, logits_of(0, 1)[0].mean(axis=0), rtol=1e-6)


def test_zarr_alone_lists_the_whole_cache_without_a_warning(folder):
    group = zarr.open_group(str(folder), mode="r")
    names = dict(group.members(max_depth=None))
    assert {"seeds", "teachers/r18/logits", "teachers/r18/digests"} <= names.keys()
    assert not [name for name in names if name.startswith("ledger/")]
    assert "seeds" in str(group.tree())
    assert group["ledger"].shape == (0,)


def test_what_zarr_knows_of_the_ledger_is_no_task(folder):
    assert "zarr" not in list(Ledger(folder).tasks())
    assert "ledger/zarr.json" in Ledger(folder).get("seeds").objects


def test_xarray_opens_the_seeds(folder):
    with xarray.open_zarr(str(folder), consolidated=False) as found:
        assert found["seeds"].dims == ("shard", "slot")


def test_unused_slots_are_nan_and_zero(folder):
    group = zarr.open_group(str(folder), mode="r")
    logits, digests = group["teachers/r18/logits"][:], group["teachers/r18/digests"][:]
    for shard, size in enumerate(SIZES):
        assert np.isfinite(logits[shard, :, :size]).all()
        assert np.isnan(logits[shard, :, size:]).all()
        assert not digests[shard, :, size:].any()
        assert not group["seeds"][shard, size:].any()


def test_one_data_shard_and_block_is_one_object(folder):
    names = sorted(folder.list("teachers/r18/logits/c"))
    assert names == [f"teachers/r18/logits/c/{shard}/{block}/0/0" for shard in range(3) for block in range(2)]


# Growing


def test_more_views_leave_every_object_as_it_was(whole):
    before = {name: data for name, data in objects(whole).items() if not name.endswith("zarr.json")}
    its = writer(whole, views=8)
    its.lay_out()
    write_all(its, first_block=2)
    after = objects(whole)
    assert {name: after[name] for name in before} == before
    teacher = Cache(whole).teacher("r18")
    assert teacher.views == 8
    assert teacher.missing(8) == []
    for view in range(8):
        assert np.array_equal(teacher.logits(1, view), logits_of(1, view // BLOCK)[view % BLOCK])


def test_a_second_teacher_leaves_every_object_as_it_was(whole):
    before = objects(whole)
    its = writer(whole, "r50", views=2, codec="float16", weights="others")
    its.lay_out()
    write_all(its, seed=1)
    after = objects(whole)
    assert {name: after[name] for name in before} == before
    assert Cache(whole).teachers == ("r18", "r50")
    assert np.array_equal(Cache(whole).teacher("r18").logits(2, 3), logits_of(2, 1)[1])
    np.testing.assert_allclose(Cache(whole).teacher("r50").logits(2, 1), logits_of(2, 0, 1)[1], atol=1e-2)


def test_an_open_cache_reads_on_while_it_grows(whole):
    cache = Cache(whole)
    teacher = cache.teacher("r18")
    teacher.logits(0, 0)
    its = writer(whole, views=8)
    its.lay_out()
    assert np.array_equal(teacher.logits(1, 3), logits_of(1, 1)[1])
    assert Cache(whole).teacher("r18").missing(8) == [(shard, block) for block in (2, 3) for shard in range(3)]


@pytest.mark.parametrize("done", range(4))
def test_growth_that_was_stopped_among_its_writes_loses_nothing_and_goes_on(whole, monkeypatch, done):
    def stopped(self):
        for name in list(self._held)[:done]:
            self._held[name].write_to(self.place, name)
        raise KeyboardInterrupt

    its = writer(whole, views=8)
    monkeypatch.setattr("stillroom.storage.cache.zarr_store.RecordingStore.release", stopped)
    with pytest.raises(KeyboardInterrupt):
        its.lay_out()
    monkeypatch.undo()
    half_grown = Cache(whole).teacher("r18")
    assert half_grown.views == (8 if done == 3 else 4), "as many views as logits and digests have room for"
    assert np.array_equal(half_grown.logits(0, 0), logits_of(0, 0)[0])
    its.lay_out()
    write_all(its, first_block=2)
    assert Cache(whole).teacher("r18").missing(8) == []


def test_what_every_record_lists_is_on_disk_after_growth_too(whole):
    """In one of the forms listed: metadata is replaced as a cache grows."""
    writer(whole, views=8).lay_out()
    forms: dict[str, list[ObjectDigest]] = {}
    for record in Ledger(whole).records():
        for name, expected in record.objects.items():
            forms.setdefault(name, []).append(expected)
    assert max(len(found) for found in forms.values()) == 2
    for name, found in forms.items():
        assert ObjectDigest.of(whole.read(name)) in found, name


def test_a_block_that_is_written_again_is_the_same_bytes(whole):
    before = objects(whole)
    write_block(writer(whole), 1, 1)
    assert objects(whole) == before


# What is not there, or not right


def test_an_empty_place_is_no_cache(place):
    with pytest.raises(MissingObjectError, match="run `stillroom seeds` first") as caught:
        Cache(place)
    assert str(place) in str(caught.value)


def test_a_cache_opens_by_url(whole, place):
    assert open_cache(str(place)).info == info()


def test_a_cache_of_another_format_is_refused(place, monkeypatch):
    monkeypatch.setattr("stillroom.storage.cache.cache.FORMAT", 99)
    create(place)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="has cache format 99, this stillroom reads 1"):
        Cache(place)


def test_a_teacher_that_is_not_there_is_named_with_those_that_are(whole):
    with pytest.raises(MissingObjectError, match=r"no teacher 'r152' \(it has: r18\)"):
        Cache(whole).teacher("r152")


def test_a_block_that_is_not_done_raises_and_is_listed_as_missing(place):
    its = writer(create(place))
    its.lay_out()
    write_block(its, 0, 0)
    teacher = Cache(place).teacher("r18")
    assert np.array_equal(teacher.logits(0, 1), logits_of(0, 0)[1])
    for shard, view in ((0, 2), (1, 0)):
        with pytest.raises(MissingObjectError, match=f"teachers/r18/logits/c/{shard}/{view // 2}/0/0"):
            teacher.logits(shard, view)
        with pytest.raises(MissingObjectError, match=f"teachers/r18/digests/c/{shard}/{view // 2}/0"):
            teacher.digests(shard, view)
    assert teacher.missing(4) == [(1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert [item.shard for item in teacher.canaries()] == [0]


def test_a_block_that_is_finished_later_can_be_read_without_opening_again(place):
    its = writer(create(place))
    its.lay_out()
    teacher = Cache(place).teacher("r18")
    with pytest.raises(MissingObjectError):
        teacher.logits(0, 0)
    write_block(its, 0, 0)
    assert np.array_equal(teacher.logits(0, 0), logits_of(0, 0)[0])


def test_objects_without_their_record_are_not_believed(whole):
    Ledger(whole).drop("teachers/r18/blocks/000001.000000")
    teacher = Cache(whole).teacher("r18")
    assert teacher.missing(4) == [(1, 0)]
    with pytest.raises(MissingObjectError, match=r"teachers/r18/blocks/000001\.000000"):
        teacher.logits(1, 0)


def every_object():
    blocks = [f"teachers/r18/{array}" for array in ("logits/c/1/1/0/0", "digests/c/2/0/0", "canaries/c/1/0/0/0")]
    metadata = [
        "",
        "seeds/",
        "teachers/r18/",
        "teachers/r18/logits/",
        "teachers/r18/digests/",
        "teachers/r18/canaries/",
    ]
    return ["seeds/c/0/0", *blocks, *(f"{name}zarr.json" for name in metadata)]


def test_a_whole_cache_reads_without_complaint(whole):
    read_everything(whole)
    assert set(every_object()) <= set(whole.list())


@pytest.mark.parametrize("name", every_object())
def test_a_changed_byte_in_any_object_is_found_and_the_object_named(name):
    whole = create_whole(open_place(f"memory://{uuid.uuid4().hex}/cache"))
    flip(whole, name, where=len(whole.read(name)) // 2)
    with pytest.raises(DamagedObjectError) as caught:
        read_everything(whole)
    assert f"{whole}/{name}" in str(caught.value)


@pytest.mark.parametrize("name", every_object())
def test_an_object_that_is_gone_is_missed_and_named(name):
    whole = create_whole(open_place(f"memory://{uuid.uuid4().hex}/cache"))
    whole.delete(name)
    with pytest.raises(MissingObjectError) as caught:
        read_everything(whole)
    assert f"{whole}/{name} is missing" in str(caught.value)


def test_swapped_blocks_are_found_and_named(whole):
    first, second = (f"teachers/r18/logits/c/{place}/0/0" for place in ("0/0", "0/1"))
    one, other = whole.read(first), whole.read(second)
    whole.write(first, other)
    whole.write(second, one)
    with pytest.raises(DamagedObjectError, match=first):
        Cache(whole).teacher("r18").logits(0, 0)


def test_another_teachers_object_is_found_and_named(whole):
    its = writer(whole, "r50", weights="others")
    its.lay_out()
    write_all(its, seed=1)
    name = "teachers/{}/logits/c/2/1/0/0"
    whole.write(name.format("r18"), whole.read(name.format("r50")))
    with pytest.raises(DamagedObjectError, match=name.format("r18")):
        Cache(whole).teacher("r18").logits(2, 2)


def test_another_tasks_record_does_not_vouch_for_an_object(whole):
    """A record copied over another one is damage, not a different truth."""
    ledger = Ledger(whole)
    first, second = (ledger.name(f"teachers/r18/blocks/000000.00000{block}") for block in (0, 1))
    whole.write(first, whole.read(second))
    with pytest.raises(DamagedObjectError, match=r"blocks/000000\.000000"):
        Cache(whole).teacher("r18").logits(0, 0)


# Made from something else


@pytest.mark.parametrize(
    ("field", "stored", "wanted", "change"),
    [
        ("data", "d1", "d2", {"data": "d2"}),
        ("views.flip", True, False, {"views": {"flip": False}}),
        ("views.seed", "7", "8", {"views.seed": "8"}),
        ("renderer.backend", "dali-cpu", "dali-gpu", {"renderer": {"backend": "dali-gpu"}}),
    ],
)
def test_other_views_are_refused_by_field_and_both_values(whole, field, stored, wanted, change):
    cache = Cache(whole)
    cache.refuse_other_views(info().views)
    with pytest.raises(FingerprintError) as caught:
        cache.refuse_other_views({**info().views, **change})
    assert (caught.value.field, caught.value.stored, caught.value.wanted) == (field, stored, wanted)
    assert f"{field} = {stored!r}" in str(caught.value)
    assert f"{field} = {wanted!r}" in str(caught.value)
    assert str(whole) in str(caught.value)


def test_a_field_may_be_allowed_to_differ(whole):
    other = {**info().views, "renderer": {"backend": "dali-gpu"}}
    Cache(whole).refuse_other_views(other, except_for=("renderer",))


def test_another_teacher_under_the_same_name_is_refused(whole):
    stored = Cache(whole).teacher("r18").info
    writer(whole).refuse_other_teacher(stored)
    with pytest.raises(FingerprintError, match="weights = 'w', this run has weights = 'x'"):
        writer(whole, weights="x").refuse_other_teacher(stored)
    with pytest.raises(FingerprintError, match="codec = 'float32', this run has codec = 'float16'"):
        writer(whole, codec="float16").refuse_other_teacher(stored)
