"""Logits of plain views: the teacher's own answers, kept beside the others, which they never touch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import zarr
from trials.plants import rerecord

from stillroom.pipeline.augment.recipe import Views
from stillroom.pipeline.config.config import parse_config
from stillroom.pipeline.models import teacher as teach
from stillroom.pipeline.models.factory import build_model
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.pipeline.teacher.plain_views import PlainMaker
from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.maintenance.status import status_of
from stillroom.stages.verify.repair import repair
from stillroom.storage.cache.cache import Cache
from stillroom.storage.codecs.registry import divergence
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DamagedObjectError, FingerprintError, MissingObjectError, ModelError
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.writers.loss_summary import FACTS

CROP = 0.7
STAGES = ("ingest", "seeds", "teacher")
CHUNK = "teachers/t/plain/c/1/0/0"


@pytest.fixture(scope="module")
def sharp(weights, tmp_path_factory):
    """Weights of a teacher whose answers differ from image to image though it is untrained."""
    state = safetensors.torch.load_file(weights)
    path = tmp_path_factory.mktemp("sharp") / "teacher.safetensors"
    safetensors.torch.save_file({**state, "fc.weight": state["fc.weight"] * 200}, path)
    return path


@pytest.fixture(scope="module")
def photo_run(run_tables, sharp, tmp_path_factory):
    """A config of photos of several sizes; keys of the cache's section by name."""

    def make(folder=None, *, crop=CROP, plain=True, views=None, teacher=None, **cache):
        cache |= {"plain": plain}
        folder = folder or tmp_path_factory.mktemp("run")
        tables = run_tables(
            folder, data={"eval_crop": crop}, cache=cache, teacher={"weights": str(sharp)} | (teacher or {})
        )
        if views is not None:
            tables["views"]["count"] = views
        return parse_config({**tables, "verify": {"share": 1.0}})

    return make


@pytest.fixture(scope="module")
def whole(photo_run, run_stages):
    """A finished cache with plain views, of float16."""
    config = photo_run()
    run_stages(config, *STAGES)
    return config


@pytest.fixture
def copied(whole, photo_run, tmp_path):
    """A copy of it, to be changed; gives its config with other settings too."""
    folder = tmp_path / "run"
    shutil.copytree(whole.run.dir, folder)
    return lambda **changes: photo_run(folder, **changes)


def reference(config, shard, weights):
    """The teacher's answers to centred squares, one image at a time: float32 [slot, class]."""
    data = Dataset(config.data_place)
    index = data.index(shard)
    model = build_model("timm:test_resnet", len(data.classes)).eval()
    model.load_state_dict(safetensors.torch.load_file(weights))
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    renderer = Renderer((config.teacher[0].size,), 1, threads=1)
    answers = []
    for image, height, width in zip(data.images(shard, index), index.height, index.width, strict=True):
        side = round(float(min(height, width)) * config.data.eval_crop)
        window = np.array([[(height - side) // 2, (width - side) // 2, side, side]], np.int32)
        (pixels,) = renderer.render(Request([image], [Views({"crop": window})]))
        with torch.no_grad():
            answers.append(model((pixels[0].permute(0, 3, 1, 2) / 255 - mean) / std))
    return torch.cat(answers).numpy()


def verified(config, run_stages):
    return run_stages(config, "verify", again=True)["verify"].concluded


def listing(config, *, plain=True):
    """Bytes and time of change of every file of the run; without those of plain views on request."""
    files = [path for path in Path(config.run.dir).rglob("*") if path.is_file()]
    found = {
        path.relative_to(config.run.dir).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files
    }
    return {name: item for name, item in found.items() if plain or "/plain/" not in name}


@pytest.mark.slow
def test_float32_keeps_the_teachers_own_answers_to_centred_squares(photo_run, run_stages, sharp):
    config = photo_run(codec="float32")
    run_stages(config, *STAGES)
    teacher = Cache(config.cache_place).teacher("t")
    assert teacher.missing_plain() == []
    assert teacher.plain_crop() == CROP
    for shard, size in enumerate(Dataset(config.data_place).sizes):
        found = teacher.plain(shard)
        assert found.dtype == np.float32
        assert found.shape == (size, 3)
        asked = reference(config, shard, sharp)
        np.testing.assert_allclose(found, asked, atol=1e-5 * np.abs(asked).max())
        assert np.abs(found - teacher.logits(shard, 0)).max() > 0.01  # which are of mixed views


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["float16", "int8", "topk:2", "transform"])
def test_every_codec_holds_what_it_promises(photo_run, run_stages, sharp, codec):
    config = photo_run(codec=codec)
    run_stages(config, *STAGES)
    cache = Cache(config.cache_place)
    teacher = cache.teacher("t")
    for shard in range(cache.layout.shards):
        asked, found = reference(config, shard, sharp), teacher.plain(shard)
        facts = cache.ledger.get(f"teachers/t/plain/{shard:06d}").facts
        kl = divergence(asked, found, config.cache.temperatures).mean(axis=1)
        np.testing.assert_allclose(kl, facts[FACTS]["kl_mean"], rtol=0.02, atol=1e-5)
        if codec == "float16":
            np.testing.assert_allclose(found, asked, atol=1e-4, rtol=2.0**-11)
        if codec == "transform":
            assert max(kl) <= config.cache.max_kl
        assert (facts["views"], facts[FACTS]["name"]) == (len(found), codec)
        assert facts["seconds"] > 0
        labels = Dataset(config.data_place).index(shard).label
        assert facts["top1"] == pytest.approx((asked.argmax(axis=1) == labels).mean(), abs=1e-6)
    assert verified(config, run_stages)["failures"] == []


def test_the_array_says_what_it_is(whole):
    array = zarr.open_array(f"{whole.cache_place.url}/teachers/t/plain", mode="r")
    sizes = Dataset(whole.data_place).sizes
    assert (array.shape, array.dtype) == ((len(sizes), max(sizes), 3), np.float16)
    assert array.metadata.dimension_names == ("shard", "slot", "class")
    assert array.attrs["stillroom"] == {"data.eval_crop": CROP}
    for shard, size in enumerate(sizes):
        assert np.isnan(array[shard, size:]).all()


@pytest.mark.slow
def test_a_finished_cache_gains_them_and_nothing_else_is_touched(photo_run, run_stages, whole):
    config = photo_run(plain=False)
    run_stages(config, *STAGES)
    teacher = Cache(config.cache_place).teacher("t")
    assert teacher.missing_plain() == [0, 1, 2]
    assert teacher.plain_crop() is None
    with pytest.raises(MissingObjectError, match=r"data shard 1; set cache.plain = true and run `stillroom teacher`"):
        teacher.plain(1)
    before = listing(config)
    grown = photo_run(config.run.dir)
    assert stage(status_of(grown), "teacher")["text"].startswith("7 of 11 tasks")
    results = run_stages(grown, *STAGES)["teacher"].results
    assert set(results) == {"teachers/t/plain/layout", *(f"teachers/t/plain/{shard:06d}" for shard in range(3))}
    assert listing(grown, plain=False) == before
    assert np.array_equal(teacher.plain(1), Cache(whole.cache_place).teacher("t").plain(1))  # read by one who was there
    assert teacher.missing_plain() == []
    after = listing(grown)
    assert run_stages(grown, *STAGES)["teacher"].ran == 0
    # Without the key they are not asked for, and lie there as they are.
    assert run_stages(config, *STAGES)["teacher"].ran == 0
    assert listing(config) == after
    assert verified(config, run_stages)["checks"]["plain"] == {"checked": 24, "failed": 0}


def stage(status, name):
    return next(item for item in status["stages"] if item["stage"] == name)


def test_more_views_leave_them_as_they_are(copied, run_stages):
    config = copied()
    before = {name: item for name, item in listing(config).items() if "/plain/" in name}
    run_stages(copied(views=6), *STAGES)
    assert {name: item for name, item in listing(config).items() if "/plain/" in name} == before


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_what_is_left(photo_run, run_stages, whole, monkeypatch):
    config = photo_run()
    made = PlainMaker.make
    asked = []

    def stops(self, index, *rest, **more):
        asked.append(len(index))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return made(self, index, *rest, **more)

    monkeypatch.setattr(PlainMaker, "make", stops)
    with pytest.raises(KeyboardInterrupt):
        run_stages(config, *STAGES)
    assert Cache(config.cache_place).teacher("t").missing_plain() == [1, 2]
    results = run_stages(config, *STAGES)["teacher"].results
    assert set(results) == {"teachers/t/plain/000001", "teachers/t/plain/000002"}
    for name in whole.cache_place.list("teachers/t/plain"):
        assert config.cache_place.read(name) == whole.cache_place.read(name), name


def test_damage_is_named_and_mended(copied, run_stages):
    config = copied()
    path = Path(config.cache_place.url) / CHUNK
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    with pytest.raises(DamagedObjectError, match=rf"{CHUNK} is damaged: .* `stillroom verify --repair`"):
        Cache(config.cache_place).teacher("t").plain(1)
    outcome = verified(config, run_stages)
    assert any(CHUNK in failure["where"] for failure in outcome["failures"])
    assert outcome["redo"] == [("cache", "teachers/t/plain/000001")]
    # Bytes that their record vouches for fail their own checksum.
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    rerecord(config.cache_place.local(), "teachers/t/plain/000001")
    said = r"teacher t: plain, data shard 1, is damaged .* --repair` has the task teachers/t/plain/000001 done again"
    with pytest.raises(DamagedObjectError, match=said):
        Cache(config.cache_place).teacher("t").plain(1)
    path.unlink()
    with pytest.raises(MissingObjectError, match=f"{CHUNK} is missing, though the ledger lists it"):
        Cache(config.cache_place).teacher("t").plain(1)
    assert len(Cache(config.cache_place).teacher("t").plain(0)) == 8
    repair(config, verified(config, run_stages)["redo"])
    assert set(run_stages(config, *STAGES)["teacher"].results) == {"teachers/t/plain/000001"}
    assert path.read_bytes() == good
    assert verified(config, run_stages)["failures"] == []


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["float16", "transform"])
def test_verify_finds_logits_that_changed_together_with_their_record(photo_run, run_stages, codec):
    config = photo_run(codec=codec)
    run_stages(config, *STAGES)
    array = zarr.open_array(f"{config.cache_place.url}/teachers/t/plain", mode="r+")
    logits = array[1]
    apart = np.array([divergence(logits, np.roll(logits, -step, axis=0), [1.0])[0] for step in range(8)])
    step, first = np.unravel_index(apart.argmax(), apart.shape)
    slots = [int(first), int(first + step) % 8]
    logits[slots] = logits[slots[::-1]]
    array[1] = logits
    rerecord(config.cache_place.local(), "teachers/t/plain/000001")
    outcome = verified(config, run_stages)
    assert {failure["where"] for failure in outcome["failures"]} == {
        f"teacher t, plain views, data shard 1, slot {slot}" for slot in slots
    }
    assert "nats" in outcome["failures"][0]["message"]
    assert outcome["redo"] == [("cache", "teachers/t/plain/000001")]


def test_verify_finds_a_crop_that_changed_together_with_its_record(copied, run_stages):
    config = copied()
    path = Path(config.cache_place.url) / "teachers/t/plain/zarr.json"
    good = path.read_bytes()
    path.write_text(json.dumps({**json.loads(good), "attributes": {"stillroom": {"data.eval_crop": 0.8}}}))
    rerecord(config.cache_place.local(), "teachers/t/plain/layout")
    with pytest.raises(DamagedObjectError, match=r"teachers/t/plain/layout.json is of other views"):
        Cache(config.cache_place).teacher("t").plain(0)
    outcome = verified(config, run_stages)
    assert outcome["redo"] == [("cache", "teachers/t/plain/layout")]
    repair(config, outcome["redo"])
    assert set(run_stages(config, *STAGES)["teacher"].results) == {"teachers/t/plain/layout"}
    assert path.read_bytes() == good
    assert verified(config, run_stages)["failures"] == []


@pytest.mark.slow
def test_a_record_of_another_teacher_vouches_for_nothing(copied, photo_run, run_stages):
    config = copied()
    other = photo_run(teacher={"std": (0.4, 0.4, 0.4)})
    run_stages(other, *STAGES)
    for name in (CHUNK, "ledger/teachers/t/plain/000001.json"):
        config.cache_place.write(name, other.cache_place.read(name))
    with pytest.raises(DamagedObjectError, match=r"plain/000001.json is of other views, or of another teacher"):
        Cache(config.cache_place).teacher("t").plain(1)
    assert verified(config, run_stages)["redo"] == [("cache", "teachers/t/plain/000001")]
    assert set(run_stages(config, *STAGES)["teacher"].results) == {"teachers/t/plain/000001"}


def test_another_crop_is_refused_by_name(copied, run_stages):
    with pytest.raises(FingerprintError, match=r"plain views of teacher t .*data.eval_crop = 0.7, .* = 0.8") as refused:
        run_stages(copied(crop=0.8), *STAGES)
    assert refused.value.field == "data.eval_crop"
    assert run_stages(copied(crop=0.8, plain=False), *STAGES)["teacher"].ran == 0


def test_gc_keeps_what_is_listed_and_leaves_nothing_of_what_is_not(copied):
    config = copied()
    assert list(collect(config)) == []
    for task in ("layout", "000001"):
        Ledger(config.cache_place).drop(f"teachers/t/plain/{task}")
    assert {item.name for item in collect(config)} == {"teachers/t/plain/zarr.json", CHUNK}
    names = set(config.cache_place.list("teachers/t/plain"))
    assert names == {"teachers/t/plain/c/0/0/0", "teachers/t/plain/c/2/0/0"}


def test_what_is_written_waits_for_its_layout_to_be_written_again(copied, run_stages):
    config = copied()
    Ledger(config.cache_place).drop("teachers/t/plain/layout")
    for plain in (True, False):
        outcome = verified(copied(plain=plain), run_stages)
        assert outcome["failures"]
        assert outcome["redo"] == []
    assert set(run_stages(config, *STAGES)["teacher"].results) == {"teachers/t/plain/layout"}
    assert verified(config, run_stages)["failures"] == []


@pytest.mark.slow
def test_two_teachers_have_their_own(photo_run, run_stages):
    one = photo_run(codec="float32")
    other = one.teacher[0].model_copy(update={"name": "u", "size": 48})
    config = one.model_copy(update={"teacher": (*one.teacher, other)})
    run_stages(config, *STAGES)
    cache = Cache(config.cache_place)
    first, second = cache.teacher("t"), cache.teacher("u")
    assert (first.missing_plain(), second.missing_plain()) == ([], [])
    assert np.abs(first.plain(0) - second.plain(0)).max() > 0.01
    assert verified(config, run_stages)["failures"] == []
    lost = verified(config, run_stages)["checks"]["codec"]["teachers"]
    assert set(lost) == {"t", "t, plain views", "u", "u, plain views"}


@pytest.mark.slow
def test_a_teacher_that_answers_nan_stops_by_the_samples_key_and_writes_nothing(photo_run, run_stages, monkeypatch):
    config = photo_run(plain=False)
    run_stages(config, *STAGES)
    before = listing(config)
    key = Dataset(config.data_place).index(0).key[5]
    forward = teach.LoadedTeacher._forward

    def spoiled(self, images):
        answers = forward(self, images)
        answers[5, 1] = float("nan")
        return answers

    monkeypatch.setattr(teach.LoadedTeacher, "_forward", spoiled)
    grown = photo_run(config.run.dir)
    with pytest.raises(ModelError, match=rf"not finite for the plain view of sample '{key}' \(slot 5\); nothing was"):
        run_stages(grown, *STAGES)
    new = listing(grown).keys() - before.keys()
    assert {
        name for name in new if "/layout" not in name and "zarr" not in name and not name.endswith(".error")
    } == set()


def test_a_logit_that_the_codec_cannot_hold_stops_the_task(photo_run, run_stages, monkeypatch):
    config = photo_run()
    monkeypatch.setattr(PlainMaker, "make", lambda self, index, *_, **__: np.full((len(index), 3), 1e6, np.float32))
    with pytest.raises(ModelError, match=r"data shard 0, plain views \(1e\+06\) does not fit into float16"):
        run_stages(config, *STAGES)
    assert Cache(config.cache_place).teacher("t").missing_plain() == [0, 1, 2]
    assert [name for name in config.cache_place.list("teachers/t/plain") if "/c/" in name] == []
