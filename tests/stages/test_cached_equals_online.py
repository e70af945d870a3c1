"""A student from the cache and one with the teacher in the loop are the same student."""

import numpy as np
import pytest
import torch

from stillroom.pipeline.models.factory import build_model, preprocessing_of
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.train.trainer import Trainer, from_cache, from_teacher
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset

STEPS = 40


@pytest.fixture(scope="module")
def finished(make_run):
    """A run on digits with a float32 cache of mixed views."""
    config = make_run({"cache": {"codec": "float32"}, "student": {"temperature": 2.0, "batch_size": 16}})
    return config, Cache(config.cache_place), Dataset(config.data_place)


def train(finished, target, *, also_size=None, view_shift=0):
    config, cache, data = finished
    student = config.student[0]
    torch.manual_seed(1)
    model = build_model(student.model, len(data.classes))
    cached = target is None
    loader = ReplayLoader(
        cache,
        data=data,
        batch_size=student.batch_size,
        size=student.size,
        seed=3,
        teacher=None if cached else "",
        views=config.views.count,
        also_size=also_size,
    )
    if view_shift:
        view = loader.order.view
        shifted = {"view": lambda shard, epoch, views: (view(shard, epoch, views) + view_shift) % views}
        object.__setattr__(loader.order, "view", shifted["view"])
    trainer = Trainer(
        model.to(memory_format=torch.channels_last),
        preprocessing_of(model),
        student,
        STEPS,
        from_cache(student.temperature) if cached else target,
    )
    losses = []
    epoch = 0
    while trainer.step < STEPS:
        for batch in loader.epoch(epoch):
            losses.append(trainer.train(batch).loss)
            if trainer.step == STEPS:
                break
        epoch += 1
    return np.array(losses), model.state_dict()


@pytest.fixture(scope="module")
def cached(finished):
    return train(finished, None)


@pytest.fixture(scope="module")
def teacher(finished):
    config, _, data = finished
    return load_teacher(config.teacher[0], data.classes)


def furthest(one, other):
    """Largest relative distance of any tensor of two state dicts."""
    distances = [
        float((one[name].double() - other[name].double()).norm() / one[name].double().norm().clamp_min(1e-3))
        for name in one
    ]
    return max(distances)


def test_losses_and_weights_are_the_same(finished, cached, teacher):
    online = train(finished, from_teacher(teacher, finished[0].student[0].temperature))
    np.testing.assert_allclose(online[0], cached[0], rtol=0, atol=1e-5)
    assert furthest(cached[1], online[1]) < 1e-4


def test_they_are_the_same_where_the_teacher_sees_another_size(finished, cached, teacher):
    config, _, _ = finished
    online = train(finished, from_teacher(teacher, config.student[0].temperature), also_size=config.teacher[0].size)
    np.testing.assert_allclose(online[0], cached[0], rtol=0, atol=1e-5)


def test_they_are_not_the_same_with_another_view(finished, cached, teacher):
    other = train(finished, from_teacher(teacher, finished[0].student[0].temperature), view_shift=1)
    assert np.abs(other[0] - cached[0]).max() > 1e-2
    assert furthest(cached[1], other[1]) > 1e-2
