"""Another backend than the cache's: refused, or allowed by name, and then measured on the canaries.

The other backend is a stand-in where there is no GPU: this one, with one added to every sixteenth level.
"""

import numpy as np
import pytest
import torch

from stillroom.pipeline.models.teacher import load_teacher
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.replay import shared_pass as shared_module
from stillroom.pipeline.replay.loader import ReplayLoader
from stillroom.pipeline.teacher import backend_drift as drift_module
from stillroom.pipeline.teacher import evaluation as evaluation_module
from stillroom.pipeline.teacher.backend_drift import measure_drift
from stillroom.stages.student.stage import notes
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, FingerprintError, ViewMismatchError
from stillroom.storage.ledger.ledger import Ledger


class Other(Renderer):
    """Called dali-gpu."""

    def __init__(self, *given, backend="integer-cpu", **more):
        super().__init__(*given, backend="integer-cpu", **more)
        self.other = backend == "dali-gpu"

    def stream(self, requests):
        for rendered in super().stream(requests):
            yield [pixels + (pixels % 16 == 0).to(torch.uint8) if self.other else pixels for pixels in rendered]


@pytest.fixture
def other(monkeypatch):
    for module in (drift_module, shared_module, evaluation_module):
        monkeypatch.setattr(module, "Renderer", Other)


@pytest.fixture(scope="module")
def cached(make_run):
    return make_run()


def changed(make_config, config, render=None, **student):
    return make_config({"render": render or {}, "student": student}, folder=config.run.dir)


def test_it_is_refused_and_the_way_to_allow_it_named(make_config, cached, run_stages):
    config = changed(make_config, cached, {"backend": "dali-gpu"}, name="refused")
    with pytest.raises(ViewMismatchError, match=r"render.allow_drift = 'dali-gpu'"):
        run_stages(config, "student")
    cache = Cache(cached.cache_place)
    with pytest.raises(ViewMismatchError, match=r"rendered by integer-cpu, these would be by dali-gpu"):
        ReplayLoader(cache, data=str(cached.data_place), batch_size=16, size=32, seed=0, backend="dali-gpu")


def test_allowed_by_name_it_is_measured_said_and_kept(make_config, cached, run_stages, other):
    config = changed(make_config, cached, {"allow_drift": "dali-gpu"}, name="allowed")
    canaries = np.stack([canary.pixels for canary in Cache(cached.cache_place).teacher("t").canaries()])
    share = float((canaries % 16 == 0).mean())
    (said,) = notes(config)
    assert "rendered by dali-gpu, the cache was made by integer-cpu, and nothing is proved; on 16 canaries" in said
    assert "furthest 1 of 255" in said
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert facts["proved"] == 0
    found = facts["drift"]["t"]
    assert found["furthest"] == 1
    assert found["views"] == 16
    assert found["equal"] == pytest.approx(1 - share)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / share), abs=1e-3)
    assert 0 < found["kl_mean"] <= found["kl_max"] < 1
    assert "drift" in Ledger(config.student_place(config.student[0])).get("student").facts


def test_a_student_with_drift_is_another_student(make_config, cached, run_stages, other):
    run_stages(changed(make_config, cached, name="one"), "student")
    with pytest.raises(FingerprintError, match=r"renderer\.backend"):
        run_stages(changed(make_config, cached, {"allow_drift": "dali-gpu"}, name="one"), "student")


def test_dalis_resize_is_at_most_a_level_from_ours(make_config, cached, run_stages):
    """Two backends that are both here: what is between them is measured, not supposed."""
    config = changed(make_config, cached, {"allow_drift": "dali-cpu"}, name="by-dali")
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert facts["proved"] == 0
    found = facts["drift"]["t"]
    assert (found["cached"], found["here"], found["furthest"]) == ("integer-cpu", "dali-cpu", 1)
    assert found["psnr"] > 60
    assert found["kl_max"] < 1e-5


def test_the_caches_own_backend_has_no_drift_and_is_proved(make_config, cached, run_stages):
    config = changed(make_config, cached, {"allow_drift": "integer-cpu"}, name="own")
    assert notes(config) == []
    (facts,) = run_stages(config, "student")["student"].results.values()
    assert facts["proved"] > 0
    assert "drift" not in facts
    cache, data = Cache(cached.cache_place), Dataset(cached.data_place)
    teacher = load_teacher(cached.teacher[0], data.classes)
    found = measure_drift(cache, data, cache.teacher("t"), "integer-cpu", 1, teacher)
    assert (found.psnr, found.furthest, found.equal, found.kl_max) == (None, 0, 1.0, 0.0)


def test_without_the_teachers_weights_the_pixels_alone_are_measured(make_config, cached, other):
    gone = {**cached.teacher[0].model_dump(), "weights": "gone.safetensors"}
    config = make_config(
        {"teacher": [gone], "render": {"allow_drift": "dali-gpu"}, "student": {"name": "alone"}}, folder=cached.run.dir
    )
    (said,) = notes(config)
    assert "its weights are not here" in said


def test_a_cache_without_canaries_cannot_be_replayed_with_drift(make_run, make_config, other):
    config = make_run({"cache": {"canaries": 0}})
    with pytest.raises(ConfigError, match="has no canaries"):
        notes(changed(make_config, config, {"allow_drift": "dali-gpu"}))
