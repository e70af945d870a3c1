"""The paper's four designs over a cache: pixels, logits and losses against a plain reference, view by view."""

import numpy as np
import pytest
import torch

from stillroom.pipeline.augment.recipe import Recipe, centre_views, draw_views
from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.train.trainer import from_cache
from stillroom.stages.run.resources import backend_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, MissingObjectError

SIZE, TEMPERATURE = 32, 3.0


@pytest.fixture(scope="module")
def plain(make_run):
    """A float32 cache of views that are not mixed, with plain views."""
    return make_run({"cache": {"codec": "float32", "plain": True}, "views": {"mixup": False}})


@pytest.fixture(scope="module")
def mixed(make_run):
    return make_run({"cache": {"codec": "float32"}, "views": {"mixup": True}})


class Reference:
    """The same views and answers, one image at a time, with nothing of loader, order or cache but the seeds."""

    def __init__(self, config):
        self.config = config
        self.data, self.cache = Dataset(config.data_place), Cache(config.cache_place)
        self.recipe = Recipe.from_data(dict(self.cache.info.recipe))
        self.renderer = Renderer((SIZE,), 1, threads=1, backend=backend_of(config))
        self.teacher = load_teacher(config.teacher[0], self.data.classes)
        self.places = {
            int(uid): (shard, slot)
            for shard in range(len(self.data.sizes))
            for slot, uid in enumerate(self.data.index(shard).uid)
        }

    def pixels(self, shard, slot, view):
        """float32 [size, size, 3] in [0, 255]; view −1 is the centre."""
        index = self.data.index(shard)
        if view < 0:
            views = centre_views(index.height, index.width, self.config.data.eval_crop)
        else:
            views = draw_views(self.recipe, self.cache.seeds(shard), view, index.height, index.width)
        image = self.data.images(shard, index)[slot]
        return (
            self.renderer.render(Request([image], [views.take(np.array([slot]))]))[0][0, 0].numpy().astype(np.float32)
        )

    def image(self, shard, slot, view):
        """What student or teacher see: [3, size, size] in [0, 1]."""
        own = self.pixels(shard, slot, view)
        if self.recipe.mixup:
            mix = self.recipe.mixing.draw(self.cache.seeds(shard), view)
            partner, share = mix.partner, mix.weight
            own = own * share[slot] + self.pixels(shard, int(partner[slot]), view) * (1 - share[slot])
        return torch.from_numpy(own / 255).permute(2, 0, 1)


def kl(p_logits, q_logits):
    p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (p_logits / TEMPERATURE, q_logits / TEMPERATURE))
    return float((p * np.log(p / q)).sum() * TEMPERATURE**2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "design"),
    [("plain", "consistent"), ("plain", "independent"), ("plain", "fixed"), ("mixed", "consistent")],
)
def test_pixels_logits_and_losses_are_those_of_the_design(request, kind, design):
    config = request.getfixturevalue(kind)
    reference = Reference(config)
    loader = ReplayLoader(
        reference.cache, data=reference.data, batch_size=16, size=SIZE, seed=5, design=design, views=4
    )
    epoch = 2
    batch = next(loader.epoch(epoch))
    student = torch.randn(len(batch), 10, generator=torch.Generator().manual_seed(0))
    losses = from_cache(TEMPERATURE)(batch, student)
    for row in range(0, len(batch), 3):
        shard, slot = reference.places[int(batch.uids[row])]
        view, source = int(batch.views[row]), int(batch.sources[row])
        seen = [loader.order.view(shard, other, 4) for other in range(4)]
        assert view == seen[epoch]
        assert source == {"consistent": view, "independent": seen[3], "fixed": -1}[design]
        torch.testing.assert_close(batch.images[row], reference.image(shard, slot, view), rtol=0, atol=1e-6)
        answer = reference.teacher(reference.image(shard, slot, source)[None])[0]
        torch.testing.assert_close(batch.logits[row], answer, rtol=0, atol=2e-4)
        expected = kl(answer.numpy().astype(np.float64), student[row].numpy().astype(np.float64))
        assert float(losses[row]) == pytest.approx(expected, rel=2e-3)


def test_independent_uses_every_view_as_often_and_never_the_same(plain):
    loader = ReplayLoader(
        Cache(plain.cache_place), data=str(plain.data_place), batch_size=16, size=SIZE, seed=5, design="independent"
    )
    sources = {}
    for epoch in range(8):
        for batch in loader.epoch(epoch):
            assert (batch.views != batch.sources).all()
            for uid, source in zip(batch.uids, batch.sources.tolist(), strict=True):
                sources.setdefault(int(uid), []).append(source)
    whole = [found for found in sources.values() if len(found) == 8]  # an epoch leaves a few samples out
    assert len(whole) > 100
    assert all(sorted(found) == [0, 0, 1, 1, 2, 2, 3, 3] for found in whole)


@pytest.mark.slow
def test_views_used_limits_the_distinct_views(make_config, plain, run_stages):
    config = make_config(
        {
            "cache": {"codec": "float32", "plain": True},
            "views": {"mixup": False},
            "student": {"name": "few", "views_used": 2, "epochs": 4},
        },
        folder=plain.run.dir,
    )
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert facts["proved"] == facts["steps"] * 16
    loader = ReplayLoader(
        Cache(plain.cache_place), data=str(plain.data_place), batch_size=16, size=SIZE, seed=0, views=2
    )
    assert {int(view) for epoch in range(4) for batch in loader.epoch(epoch) for view in batch.views} == {0, 1}


@pytest.mark.parametrize("design", ["fixed", "independent"])
def test_designs_that_pair_other_views_train(make_config, plain, run_stages, design):
    tables = {"cache": {"codec": "float32", "plain": True}, "views": {"mixup": False}}
    config = make_config({**tables, "student": {"name": design, "design": design}}, folder=plain.run.dir)
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert facts["proved"] > 0
    assert facts["kl"] > 0


def test_fixed_without_plain_views_is_refused_before_the_first_step(make_run):
    config = make_run({"views": {"mixup": False}})
    with pytest.raises(MissingObjectError, match=r"cache.plain = true and run `stillroom teacher`"):
        ReplayLoader(
            Cache(config.cache_place), data=str(config.data_place), batch_size=16, size=SIZE, seed=0, design="fixed"
        )


def test_pairing_other_views_over_mixed_ones_is_refused(mixed, make_config):
    for design in ("fixed", "independent"):
        with pytest.raises(ConfigError, match=r"views.mixup = false"):
            ReplayLoader(
                Cache(mixed.cache_place), data=str(mixed.data_place), batch_size=16, size=SIZE, seed=0, design=design
            )
        with pytest.raises(ConfigError, match=r"views.mixup = false"):
            make_config({"student": {"design": design}})


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"views_used": 5}, r"views_used = 5, and views.count is 4"),
        ({"design": "independent", "views_used": 1}, r"needs 2 views or more"),
        ({"design": "independent", "target": "labels"}, r'design needs target = "cache"'),
        ({"teacher": ["t", "t"]}, r"name each one once"),
        ({"teacher": ["t", "gone"]}, r"asks for teacher 'gone'; there are: t"),
        ({"teacher": "t", "teacher_weights": [1.0, 2.0]}, r"2 teacher_weights for 1 named"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make_config, student, message):
    with pytest.raises(ConfigError, match=message):
        make_config({"views": {"mixup": False}, "student": student})
