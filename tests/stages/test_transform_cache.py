"""A cache whose codec is fitted to a pilot: made, grown, verified, refused by name, and told of to students."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import stillroom
from stillroom.pipeline.teacher.blocks import BlockMaker
from stillroom.stages.report.page import as_toml
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress
from stillroom.stages.teacher.stage import STAGE
from stillroom.stages.verify.repair import repair
from stillroom.storage.cache.cache import Cache
from stillroom.storage.codecs.registry import fidelity
from stillroom.storage.errors import ConfigError, FingerprintError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest
from stillroom.storage.writers.loss_summary import FACTS, join_losses
from stillroom.storage.writers.pilot import read_pilot, read_transform

TRANSFORM = {"codec": "transform", "canaries": 2}


@pytest.fixture(scope="module")
def made(make_run):
    return make_run({"cache": TRANSFORM, "verify": {"share": 0.1}})


@pytest.fixture
def copied(made, make_config, tmp_path):
    """A copy of the run, to be changed."""
    shutil.copytree(made.run.dir, tmp_path / "run")
    return make_config({"cache": TRANSFORM, "verify": {"share": 0.1}}, folder=tmp_path / "run")


def with_cache(make_config, config, views=4, **settings):
    changes = {"cache": TRANSFORM | settings, "views": {"count": views}, "verify": {"share": 0.1}}
    return make_config(changes, folder=config.run.dir)


def verified(config, run_stages):
    return run_stages(config, "verify", again=True)["verify"].concluded


def records(config):
    return [record.facts for record in Cache(config.cache_place).ledger.records("teachers/t/blocks")]


def test_every_block_holds_the_bound_and_a_second_run_does_nothing(made, run_stages):
    lost = join_losses(records(made))
    assert lost["views"] == sum(Cache(made.cache_place).layout.sizes) * 4
    assert max(lost["kl_mean"]) <= made.cache.max_kl
    assert lost["temperatures"] == [1.0, 2.0, 5.0, 10.0]
    assert run_stages(made, "ingest", "seeds", "teacher")["teacher"].ran == 0


def test_the_pilot_is_some_of_the_blocks_own_views(made):
    cache = Cache(made.cache_place)
    pilot, teacher = read_pilot(cache, "t"), cache.teacher("t")
    assert len(pilot.logits) == cache.ledger.get("teachers/t/pilot").facts["rows"] >= 500
    for place in range(0, len(pilot.logits), 37):
        shard, slot, view = pilot.places[place].tolist()
        (found,) = fidelity(pilot.logits[place][None], teacher.logits(shard, view)[slot][None], [10.0])
        assert found.worst < 30 * made.cache.max_kl


@pytest.mark.slow
def test_another_batch_size_asks_the_same_and_gets_the_same_answers(made, make_run):
    again = make_run({"cache": TRANSFORM, "teacher": {"batch_size": 7}}, stages=("ingest", "seeds", "teacher"))
    first, second = (read_pilot(Cache(config.cache_place), "t") for config in (made, again))
    assert (first.places == second.places).all()
    assert abs(first.logits - second.logits).max() < 1e-4


@pytest.mark.slow
def test_two_runs_fit_the_same_model(made, make_run):
    again = make_run({"cache": TRANSFORM, "views": {"seed": 0}})
    names = [name for name in made.cache_place.list("teachers/t") if "/canaries/" not in name]
    assert any("pilot/model" in name for name in names)
    assert [name for name in names if made.cache_place.read(name) != again.cache_place.read(name)] == []


def test_more_views_keep_the_pilot_and_its_model(copied, make_config, run_stages):
    before = {name: copied.cache_place.read(name) for name in copied.cache_place.list("teachers/t/pilot")}
    digest = read_transform(Cache(copied.cache_place), "t").digest
    grown = with_cache(make_config, copied, views=6)
    summary = run_stages(grown, "teacher")["teacher"]
    assert "teachers/t/pilot" not in summary.results
    cache = Cache(grown.cache_place)
    assert {name: cache.place.read(name) for name in cache.place.list("teachers/t/pilot")} == before
    assert cache.teacher("t").views == 6
    assert cache.teacher("t").info.transform["model"] == digest
    assert max(join_losses(records(grown))["kl_mean"]) <= grown.cache.max_kl


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_kl": 0.05}, r"cache\.max_kl = 0\.02, this run has cache\.max_kl = 0\.05"),
        ({"temperatures": [1, 2]}, r"cache\.temperatures = \[1\.0, 2\.0, 5\.0, 10\.0\], this run has .*\[1\.0, 2\.0\]"),
        ({"pilot_samples": 50}, r"cache\.pilot_samples = 300, this run has cache\.pilot_samples = 50"),
        ({"codec": "float16"}, r"codec = 'transform', this run has codec = 'float16'"),
        ({"codec": "topk:5"}, r"codec = 'transform', this run has codec = 'topk:5'"),
    ],
)
def test_other_settings_of_the_codec_are_refused_by_name(made, make_config, run_stages, settings, said):
    with pytest.raises(FingerprintError, match=said):
        run_stages(with_cache(make_config, made, **settings), "teacher")


def test_a_pilot_that_gives_another_model_is_refused_where_blocks_are_left(copied, run_stages, monkeypatch):
    ledger = Cache(copied.cache_place).ledger
    for task in ("teachers/t/pilot", "teachers/t/blocks/000001.000001"):
        ledger.drop(task)
    import stillroom.stages.teacher.pilot_work as pilot

    real = pilot.fit
    monkeypatch.setattr(pilot, "fit", lambda logits, *rest: real(logits * 1.5, *rest))
    with pytest.raises(
        FingerprintError, match=r"made with model = '[0-9a-f]{64}', this run has model = '[0-9a-f]{64}'"
    ):
        run_stages(copied, "teacher")


def test_before_anything_is_laid_out_another_bound_only_fits_anew(make_config, run_stages, monkeypatch):
    config = make_config({"cache": TRANSFORM})
    run_stages(config, "ingest", "seeds")
    pilots = replace(STAGE, tasks=lambda config: [task for task in STAGE.tasks(config) if task.wave == 0])
    execute(pilots, config, InProcess(), NoProgress())
    asked, first = read_pilot(Cache(config.cache_place), "t"), read_transform(Cache(config.cache_place), "t")
    monkeypatch.setattr(BlockMaker, "answer", None)
    looser = with_cache(make_config, config, max_kl=0.1)
    execute(pilots, looser, InProcess(), NoProgress())
    again, second = read_pilot(Cache(config.cache_place), "t"), read_transform(Cache(config.cache_place), "t")
    assert (asked.logits == again.logits).all()
    assert (first.max_kl, second.max_kl) == (0.02, 0.1)


def test_too_few_views_for_a_fit_say_what_to_do(make_config, run_stages):
    config = make_config({"cache": TRANSFORM | {"pilot_samples": 2, "pilot_views": 2}})
    run_stages(config, "ingest", "seeds")
    with pytest.raises(
        ConfigError, match=r'has 4 views .* 20 or more; raise views\.count.*or use cache\.codec = "float16"'
    ):
        run_stages(config, "teacher")


def test_a_fit_of_few_views_is_said_to_be_one(make_config, run_stages):
    config = make_config({"cache": TRANSFORM | {"pilot_samples": 20, "pilot_views": 2}})
    summary = run_stages(config, "ingest", "seeds", "teacher")["teacher"]
    assert summary.results["teachers/t/pilot"]["note"].startswith("40 views: few views for a good fit")


def test_verify_passes_and_says_what_was_lost(made, run_stages):
    outcome = verified(made, run_stages)
    assert outcome["ok"], outcome["failures"]
    assert outcome["checks"]["teacher"]["checked"] > 50
    lost = outcome["checks"]["codec"]["teachers"]["t"]
    assert lost["kl_mean"] == join_losses(records(made))["kl_mean"]
    assert outcome["checks"]["codec"]["checked"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["transform", "topk:3", "sqrtp", "int8"])
def test_verify_finds_logits_of_other_views(made, make_run, tmp_path, make_config, run_stages, codec):
    """One block's logits in the place of another's, in a ledger that lists them."""
    settings = {"cache": TRANSFORM | {"codec": codec}, "verify": {"share": 0.5}}
    if codec == "transform":
        shutil.copytree(made.run.dir, tmp_path / "run")
        config = make_config(settings, folder=tmp_path / "run")
    else:
        config = make_run(settings)
    assert verified(config, run_stages)["ok"]
    name, other = "teachers/t/logits/c/1/0/0/0", "teachers/t/logits/c/1/1/0/0"
    data = config.cache_place.read(other)
    ledger = Ledger(config.cache_place)
    record = ledger.get("teachers/t/blocks/000001.000000")
    config.cache_place.write(name, data)
    ledger.put(replace(record, objects={**record.objects, name: ObjectDigest.of(data)}))
    failures = verified(config, run_stages)["failures"]
    assert {failure["check"] for failure in failures} == {"teacher"}
    assert all("data shard 1, view" in failure["where"] for failure in failures)
    assert "of KL · T² at temperature" in failures[0]["message"]


def test_verify_finds_a_block_that_says_it_lost_too_much(copied, run_stages):
    ledger = Ledger(copied.cache_place)
    record = ledger.get("teachers/t/blocks/000000.000001")
    lost = {**record.facts[FACTS], "kl_mean": [0.01, 0.01, 0.021, 0.01]}
    ledger.put(replace(record, facts={**record.facts, FACTS: lost}))
    (failure,) = verified(copied, run_stages)["failures"]
    assert (failure["check"], failure["where"]) == ("codec", "teachers/t/blocks/000000.000001")
    assert "lost 0.021 nats" in failure["message"]


@pytest.mark.parametrize("name", ["logits/c/0/0", "model/c/0"])
def test_a_damaged_pilot_is_found_and_made_again_the_same(copied, run_stages, name):
    path = Path(copied.run.dir) / "cache/teachers/t/pilot" / name
    good = path.read_bytes()
    data = bytearray(good)
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    outcome = verified(copied, run_stages)
    assert [failure["where"] for failure in outcome["failures"]] == [f"cache: teachers/t/pilot/{name}"]
    repair(copied, outcome["redo"])
    assert list(run_stages(copied, "teacher")["teacher"].results) == ["teachers/t/pilot"]
    assert path.read_bytes() == good
    assert verified(copied, run_stages)["ok"]


@pytest.mark.slow
def test_a_student_is_told_of_a_temperature_that_the_cache_does_not_guarantee(copied, tmp_path):

    path = tmp_path / "config.toml"
    path.write_text(as_toml(copied))
    command = [sys.executable, "-m", "stillroom.stages", "student", str(path), "--set", "student.temperature=20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "temperature 20: the cache of teacher 't' guarantees KL · T² of 0.02 nats for temperatures 1 to 10 only" in (
        done.stderr
    )
    facts = Ledger(copied.student_place(copied.student[0])).get("student").facts
    assert facts["faithful"]["t"]["guaranteed"] == [1.0, 10.0]
    assert "temperature 20" in facts["faithful"]["t"]["note"]


def test_anyones_loader_warns_of_it_and_not_of_others(made):
    cache = stillroom.open(str(made.cache_place))
    common = {"data": str(made.data_place), "batch_size": 16, "size": 32, "seed": 0}
    with pytest.warns(UserWarning, match="temperature 0.5: the cache of teacher 't' guarantees"):
        stillroom.ReplayLoader(cache, **common, temperature=0.5)
    assert stillroom.ReplayLoader(cache, **common, temperature=3.0).faithful["t"].guaranteed == (1.0, 10.0)
