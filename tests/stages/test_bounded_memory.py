"""Memory that is too small for a data shard changes how it is read and rendered, and nothing of what comes of it."""

import json
import subprocess
import sys
import uuid

import numpy as np
import pytest
import torch
from trials.answers import into

from stillroom.pipeline.augment.recipe import Recipe
from stillroom.pipeline.models.factory import build_model, preprocessing_of
from stillroom.pipeline.models.teacher import LoadedTeacher
from stillroom.pipeline.render.renderer import Renderer, digests
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.teacher.blocks import BlockMaker, held_at_once, views_at_once
from stillroom.pipeline.teacher.evaluation import EvaluationSet
from stillroom.stages.teacher import worker_cache
from stillroom.stages.verify import views as recheck
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import canary_place
from stillroom.storage.dataset.dataset import Dataset, shard_name
from stillroom.storage.dataset.encoded_images import Allowance, Fetched, extent
from stillroom.storage.errors import DamagedObjectError
from stillroom.storage.objects.urls import open_place
from stillroom.storage.writers.block import BlockWriter

SIZES = {"samples_per_shard": 24}


@pytest.fixture(scope="module")
def finished(make_run):
    """A run of eight data shards."""
    return make_run({"data": {"holdout": 0.2, **SIZES}, "cache": {"codec": "float32"}})


@pytest.fixture(params=["local", "remote"])
def data(request, finished):
    """Its data set, and the same in an object store."""
    if request.param == "local":
        return Dataset(finished.data_place)
    place = open_place(f"memory://{uuid.uuid4().hex}/data")
    for name in finished.data_place.list():
        place.write(name, finished.data_place.read(name))
    return Dataset(place)


def loader_of(config, data, megabytes, **more):
    loader = ReplayLoader(Cache(config.cache_place), data=data, batch_size=16, size=32, seed=3, window=2, **more)
    loader._pass._within = Allowance(int(megabytes * 2**20))
    return loader


def everything(batches):
    return [
        [batch.images, batch.logits, batch.labels, batch.shares, torch.from_numpy(batch.uids.astype(np.int64))]
        for batch in batches
    ]


def test_a_students_batches_are_the_same(finished, data):
    """With room for nothing, for some of the data shards that are held, and for all of them."""
    shard = extent(data.index(0)) / 2**20
    wanted = everything(loader_of(finished, data, 4096).epoch(1))
    for room in (0, 2.5 * shard):
        found = everything(loader_of(finished, data, room).epoch(1))
        assert len(found) == len(wanted) == sum(data.sizes) // 16
        for one, other in zip(found, wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_allowance_says_how_a_data_shard_is_read(data):
    index = data.index(0)
    within = Allowance(2 * extent(index))
    first, second, third = (data.images(shard, data.index(shard), within) for shard in (0, 0, 0))
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert isinstance(third, Fetched)
    del first
    assert isinstance(data.images(0, index, within), list)


@pytest.mark.parametrize("megabytes", [0, 4096])
def test_a_damaged_image_stops_a_student_by_name(finished, make_config, tmp_path, megabytes):
    place = open_place(str(tmp_path / "data"))
    for name in finished.data_place.list():
        place.write(name, finished.data_place.read(name))
    data = Dataset(place)
    index = data.index(3)
    tar = bytearray(place.read(shard_name(3)))
    tar[int(index.offset[7] + index.size[7] - 3)] ^= 16
    place.write(shard_name(3), bytes(tar))
    wanted = rf"sample '{index.key[7]}' in shards/000003.tar \(data shard 3, slot 7\) is not what was ingested"
    with pytest.raises(DamagedObjectError, match=wanted):
        list(loader_of(finished, data, megabytes).epoch(0))
    loader = loader_of(finished, Dataset(finished.data_place), megabytes)
    assert len(list(loader.epoch(0))) == loader.steps


def test_an_evaluation_set_is_the_same(finished):
    data = Dataset(finished.eval_place)
    settings = {"batch_size": 16, "backend": "dali-cpu", "threads": 1}
    one, other = (
        torch.cat(list(EvaluationSet(data, 32, 0.875, **settings, within=within).batches()))
        for within in (None, Allowance(0))
    )
    assert torch.equal(one, other)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    model = build_model("timm:test_resnet", 10).eval().requires_grad_(False)
    return model, preprocessing_of(model)


@pytest.mark.parametrize("mixup", [True, False])
@pytest.mark.parametrize("batch", [1, 4, 5])
def test_a_teachers_block_is_the_same_in_parts(finished, model, mixup, batch):
    """For an odd number of samples, views kept whole, and several decodes: bit for bit."""
    data, cache = Dataset(finished.data_place), Cache(finished.cache_place)
    index = data.index(0).first(21)
    seeds = cache.seeds(0)[:21]
    images = data.images(0, data.index(0), Allowance(0))[:21]
    teacher = LoadedTeacher("t", *model, "float32", batch, torch.device("cpu"), 10, {})
    recipe, keep = Recipe.of(mixup=mixup), [(0, 3), (2, 20)]
    step = held_at_once(32, 0, batch)
    assert step % batch == step % 2 == 0
    views, counted = [0, 5, 1], []
    all_at_once, logits = np.zeros((2, 3, 21, 10), np.float32)
    whole = BlockMaker(teacher, recipe, Renderer((32,), 8, views=2, operations=recipe.acting, threads=1), 8).make(
        index, images, seeds, views, into(all_at_once), keep, counted.append
    )
    assert sum(counted) == 3 * 21
    for held in {step, 2 * step, 30 * step}:
        counted.clear()
        maker = BlockMaker(teacher, recipe, Renderer((32,), 7, operations=recipe.acting, threads=1), 7, held)
        logits[:] = np.nan
        found = maker.make(index, images, seeds, views, into(logits), keep, counted.append)
        assert np.array_equal(logits, all_at_once)
        assert np.array_equal(found.digests, whole.digests)
        assert {key: pixels.tobytes() for key, pixels in found.kept.items()} == {
            key: pixels.tobytes() for key, pixels in whole.kept.items()
        }
        assert found.kept.keys() == set(keep)
        assert (found.top1, round(found.entropy, 6)) == (whole.top1, round(whole.entropy, 6))
        assert sum(counted) == 3 * 21


@pytest.mark.slow
def test_a_cache_has_the_same_bytes(finished, make_config, run_stages, tmp_path, monkeypatch):
    """By the stages: every image fetched by itself, 64 views of a data shard of 184 rendered at a time, and a view's
    logits in a file until it is whole; or all of it in memory."""
    caches, allowed = [], []

    def writer(teacher, shard, block, within):
        allowed.append(within)
        return BlockWriter(teacher, shard, block, 0)

    for name in ("small", "large"):
        bounded = name == "small"
        config = make_config(
            {"data": {"samples_per_shard": 200}, "render": {"encoded_mb": 0 if bounded else 4096, "memory_mb": 16}},
            folder=tmp_path / name,
        )
        if bounded:
            monkeypatch.setattr(worker_cache, "views_at_once", lambda *_: 1)
            monkeypatch.setattr("stillroom.stages.teacher.work.BlockWriter", writer)
            monkeypatch.setattr(worker_cache, "held_at_once", lambda *_: held_at_once(32, 0, 64))
        worker_cache.block_maker.cache_clear()
        run_stages(config, "ingest", "seeds", "teacher")
        monkeypatch.undo()
        worker_cache.block_maker.cache_clear()
        place = config.cache_place
        caches.append({found: place.read(found) for found in place.list() if not found.startswith("ledger")})
    assert held_at_once(32, 0, 64) == 64
    assert len(caches[0]) > 8
    assert set(allowed) == {16 * 2**20}
    assert caches[0] == caches[1]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_views_are_made_again_in_parts_to_the_same_end(finished, make_config, monkeypatch, share):
    config = make_config(
        {"data": {"holdout": 0.2, **SIZES}, "cache": {"codec": "float32"}, "verify": {"share": share}},
        folder=finished.run.dir,
    )
    cache = Cache(config.cache_place)
    places = [canary_place(cache.layout, number)[0] for number in range(len(cache.teacher("t").info.canaries))]
    found = []
    for at_once in (1, 5, 512):
        monkeypatch.setattr(recheck, "_AT_ONCE", at_once)
        checked = recheck.recheck_shard(config, cache, "t", places[0])
        assert checked.problems == []
        found.append((checked.rendered, len(checked.kl)))
        # A view that the teacher did not see is found once, whichever part it is in.
        with monkeypatch.context() as patch:
            patch.setattr(recheck, "digests", lambda pixels: digests(pixels) ^ np.uint16(1))
            wrong = recheck.recheck_shard(config, cache, "t", places[0])
            assert len({failure.where for failure in wrong.problems}) == len(wrong.problems) == checked.rendered
    assert found[0] == found[1] == found[2]
    if share == 1.0:
        assert found[0] == (4 * cache.layout.sizes[places[0]],) * 2


@pytest.mark.parametrize(("samples", "batch"), [(184, 64), (10_000, 64), (10_000, 7), (3, 256), (50_000, 1)])
@pytest.mark.parametrize("megabytes", [16, 1024])
def test_what_a_teacher_renders_at_once_fits(samples, batch, megabytes):
    size = 224
    views = views_at_once(samples, size, 10, megabytes)
    held = held_at_once(size, megabytes, batch)
    room = max(megabytes * 2**20, size * size * 3 * 2 * batch)
    assert min(samples, held) * views * size * size * 3 <= room
    assert held % batch == held % 2 == 0
    assert views == 1 or held >= samples


_PROCESS = """
import json, sys
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.storage.cache.cache import Cache
from stillroom.storage.objects.urls import open_place
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
cache, data, megabytes = sys.argv[1:]
loader = ReplayLoader(
    Cache(open_place(cache)), data=data, batch_size=4, size=32, seed=0, teacher="", views=1, threads=1,
    encoded_mb=int(megabytes),
)
before = peak()
count = sum(len(batch) for batch in loader.epoch(0))
print(json.dumps({"count": count, "megabytes": peak() - before}))
"""


@pytest.mark.slow
def test_a_data_shards_size_is_not_in_a_students_memory(make_config, run_stages, photos, tmp_path):
    """48 images of 4 MB in one data shard: beyond the allowance, a student does not take 192 MB more."""
    folder = tmp_path / "images"
    for number in range(48):
        path = folder / ("odd" if number % 2 else "even") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = sorted(photos.glob("*/*.jpg"))[number % 24].read_bytes()
        comment = b"\xff\xfe\xff\xff" + bytes([number]) * 65_533
        path.write_bytes(plain[:2] + comment * 64 + plain[2:])
    settings = {"train": str(folder), "holdout": 0.0, "samples_per_shard": 48}
    config = make_config({"data": settings}, folder=tmp_path / "run")
    run_stages(config, "ingest", "seeds")
    assert len(Dataset(config.data_place).sizes) == 1
    grown = {}
    for megabytes in (16, 4096):
        command = [sys.executable, "-c", _PROCESS, str(config.cache_place), str(config.data_place), str(megabytes)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert said["count"] == 48
        grown[megabytes] = said["megabytes"]
    assert grown[16] < grown[4096] - 96, grown
