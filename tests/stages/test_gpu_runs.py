"""Whole runs on a GPU: caches that are the same from run to run, students fed there, and the drift between backends.

`make test-gpu` runs these; elsewhere they are left out.
"""

import numpy as np
import pytest
import torch
from trials.answers import into

from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.teacher.backend_drift import measure_drift
from stillroom.pipeline.teacher.blocks import BlockMaker
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ViewMismatchError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]
CLASSES = tuple(str(digit) for digit in range(10))
GPU, CPU = {"backend": "dali-gpu"}, {"backend": "dali-cpu"}


@pytest.fixture(scope="module")
def on_gpu(make_run):
    return make_run({"render": GPU, "cache": {"codec": "float32"}})


@pytest.fixture(scope="module")
def on_cpu(make_run):
    return make_run({"render": CPU, "cache": {"codec": "float32"}})


def cached_of(config):
    cache = Cache(config.cache_place)
    teacher = cache.teacher("t")
    shards = range(len(cache.layout.sizes))
    views = [(shard, view) for shard in shards for view in range(config.views.count)]
    digests = np.concatenate([teacher.digests(*view) for view in views])
    return digests, np.concatenate([teacher.logits(*view) for view in views])


def test_two_runs_make_the_same_cache_whatever_is_rendered_at_once(on_gpu, make_run):
    other = make_run({"render": {**GPU, "memory_mb": 16, "threads": 1}, "cache": {"codec": "float32"}})
    for one, two in zip(cached_of(on_gpu), cached_of(other), strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("render", ["on_gpu", "on_cpu"])
def test_a_student_on_the_gpu_replays_the_cache_and_proves_it(request, make_config, run_stages, render):
    config = request.getfixturevalue(render)
    own = make_config({"render": config.render.model_dump(), "student": {"name": "s", "epochs": 2}}, config.run.dir)
    (facts,) = run_stages(own, "student", "verify")["student"].results.values()
    assert facts["proved"] >= facts["steps"] * own.student[0].batch_size
    assert 0.0 <= facts["top1"] <= 1.0


@pytest.mark.parametrize("render", ["on_gpu", "on_cpu"])
def test_batches_put_on_the_gpu_are_those_of_the_cpu_to_the_bit(request, render):
    config = request.getfixturevalue(render)
    cache, data = Cache(config.cache_place), str(config.data_place)
    more = {"data": data, "batch_size": 16, "size": 32, "seed": 1}
    plain, there = ReplayLoader(cache, **more), ReplayLoader(cache, to="cuda", **more)
    for one, other in zip(plain.epoch(1), there.epoch(1), strict=True):
        assert {tensor.device.type for tensor in other.tensors()} == {"cuda"}
        for a, b in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(a.cpu(), b.cpu())
        assert one.proved == other.proved


def test_a_wrong_view_is_refused_before_it_is_handed_out(on_gpu):
    loader = ReplayLoader(
        Cache(on_gpu.cache_place), data=str(on_gpu.data_place), batch_size=16, size=32, seed=1, to="cuda"
    )
    (prover,) = loader._pass._provers
    prover._hasher.begin = lambda pixels: lambda: np.zeros(len(pixels), np.uint16)
    with pytest.raises(ViewMismatchError, match="is not what teacher t saw"):
        next(loader.epoch(0))


@pytest.mark.parametrize(("precision", "graph"), [("float32", False), ("bfloat16", False), ("bfloat16", True)])
def test_a_teacher_answers_alike_from_run_to_run(teacher_weights, precision, graph):
    section = Teacher(
        name="t",
        model="timm:test_resnet",
        weights=str(teacher_weights),
        size=32,
        batch_size=64,
        precision=precision,
        graph=graph,
    )
    images = torch.rand(200, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cuda()
    one, other = (load_teacher(section, CLASSES)(images) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("how", [{"graph": True}, {"compile": True}, {"compile": True, "graph": True}])
def test_recorded_and_compiled_teachers_give_nearly_the_same_logits(teacher_weights, how):
    about = {"name": "t", "model": "timm:test_resnet", "weights": str(teacher_weights), "size": 32, "batch_size": 64}
    images = torch.rand(150, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cuda()
    plain = load_teacher(Teacher(**about), CLASSES)(images)
    torch.testing.assert_close(load_teacher(Teacher(**about, **how), CLASSES)(images), plain, rtol=0, atol=1e-3)


def test_a_recorded_teacher_answers_while_views_are_rendered(on_gpu):
    """DALI's threads and a graph's launches do not disturb each other; the graph was recorded before."""
    section = on_gpu.teacher[0].model_copy(update={"graph": True})
    data, cache = Dataset(on_gpu.data_place), Cache(on_gpu.cache_place)
    index = data.index(0)
    logits = np.full((2, 4, len(index), len(data.classes)), np.nan, np.float32)
    made = [
        BlockMaker(
            load_teacher(item, data.classes),
            on_gpu.views.recipe,
            Renderer((32,), 16, views=2, operations=on_gpu.views.recipe.acting, backend="dali-gpu"),
            16,
        ).make(index, data.images(0, index), cache.seeds(0), range(4), into(answers))
        for item, answers in zip((on_gpu.teacher[0], section), logits, strict=True)
    ]
    assert np.array_equal(made[0].digests, made[1].digests)
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-3)


@pytest.mark.parametrize(("cache_of", "here"), [("on_cpu", "dali-gpu"), ("on_gpu", "dali-cpu")])
def test_drift_between_the_backends_is_refused_or_measured(request, make_config, run_stages, cache_of, here):
    config = request.getfixturevalue(cache_of)
    refused = make_config({"render": {"backend": here}, "student": {"name": "no"}}, config.run.dir)
    with pytest.raises(ViewMismatchError, match=r"render\.allow_drift"):
        run_stages(refused, "student")
    allowed = make_config({"render": {"allow_drift": here}, "student": {"name": "yes"}}, config.run.dir)
    (facts,) = run_stages(allowed, "student")["student"].results.values()
    assert facts["proved"] == 0
    assert facts["drift"]["t"]["here"] == here
    cache, data = Cache(config.cache_place), Dataset(config.data_place)
    found = measure_drift(cache, data, cache.teacher("t"), here, 2, load_teacher(config.teacher[0], data.classes))
    print(found.note)
    assert found.psnr is None or found.psnr > 30
