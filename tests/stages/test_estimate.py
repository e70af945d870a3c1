"""What is predicted is what comes: bytes and objects of the real run, and plans that no machine here could run."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import stillroom.stages.estimate.probe as probe
from stillroom.stages.estimate.estimate import estimate
from stillroom.stages.estimate.forecast import Known, Plan, forecast
from stillroom.stages.estimate.measurements import Probe, Timed, Tried
from stillroom.stages.estimate.text import in_lines
from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.report.page import as_toml
from stillroom.stages.run.executor import InProcess
from stillroom.stages.run.progress import NoProgress
from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import ConfigError
from stillroom.storage.objects.base import temporary_of, temporary_root


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.3)


def estimated(config, **plan):
    return estimate(config, InProcess(), NoProgress(), **plan)


def plan_of(found, views):
    (plan,) = (item for item in found["plans"] if item["views"] == views)
    return plan


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "plain"), [("float16", True), ("transform", False), ("transform", True)])
def test_bytes_and_objects_of_the_real_run_are_as_predicted(make_config, run_stages, codec, plain):
    config = make_config({"cache": {"codec": codec, "plain": plain}, "views": {"count": 8}})
    plan = plan_of(estimated(config), 8)
    run_stages(config, "teacher")
    names = list(config.cache_place.list())
    real = sum(config.cache_place.size(name) for name in names)
    assert plan["bytes"]["total"] == pytest.approx(real, rel=0.1)
    kinds = {
        kind: sum(config.cache_place.size(n) for n in names if n.startswith(f"teachers/t/{kind}/c/"))
        for kind in ("logits", "digests", "plain")
    }
    assert plan["bytes"]["logits"] == pytest.approx(kinds["logits"], rel=0.1)
    assert plan["bytes"]["digests"] == kinds["digests"]
    assert plan["bytes"]["plain"] == pytest.approx(kinds["plain"], rel=0.1, abs=64)  # headers, of data shards of 60
    assert (plan["bytes"]["plain"] > 0) == plain
    assert plan["objects"] == len(names)
    assert plan["bytes_by_codec"][codec] == plan["bytes"]["total"]


@pytest.mark.slow
def test_the_pilot_is_kept_for_the_run_and_the_probe_leaves_nothing(make_config, run_stages):
    config = make_config({"cache": {"codec": "transform"}})
    estimated(config)
    cache = Cache(config.cache_place)
    assert cache.teachers == ()
    before = {name: cache.place.read(name) for name in cache.place.list()}
    assert {name.split("/")[0] for name in before} == {"zarr.json", "seeds", "teachers", "ledger"}
    assert [name for name in before if name.startswith("teachers/t/") and "/pilot/" not in name] == []
    again = estimated(config)
    assert {name: cache.place.read(name) for name in cache.place.list()} == before
    assert "teachers/t/pilot" not in run_stages(config, "teacher")["teacher"].results
    assert again["teachers"][0]["pilot"]["rows"] == again["teachers"][0]["pilot"]["samples"] * 4


@pytest.mark.slow
def test_an_estimate_beside_another_one_leaves_its_scratch_folder_alone(make_config):
    config = make_config()
    seen = []

    class During(NoProgress):
        """Runs a second estimate when the first has written something, and is still to read it."""

        def advance(self, units):
            if not seen and scratch(config):
                seen.append(scratch(config))
                estimated(config)
                seen.append(scratch(config))

    estimate(config, InProcess(), During())
    assert seen[1] == seen[0] != []
    assert scratch(config) == []


def scratch(config):
    return [name for name in config.cache_place.list() if temporary_of(name) is not None]


@pytest.mark.slow
def test_gc_removes_the_scratch_folder_of_a_killed_estimate_and_of_no_other(make_config, tmp_path):
    config = make_config()
    estimated(config)
    before = set(config.cache_place.list())
    path = tmp_path / "config.toml"
    path.write_text(as_toml(config))
    killed = subprocess.run([sys.executable, "-c", DIE, "estimate", str(path)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = set(config.cache_place.list()) - before
    assert left
    with config.cache_place.scratch("estimate") as live:
        live.write("object", b"x")
        gone = list(collect(config))
        assert live.read("object") == b"x"
    (removed,) = (item for item in gone if not item.kept)
    assert removed.name == temporary_root(min(left))
    assert removed.size > 0
    assert set(config.cache_place.list()) == before
    assert not list(config.cache_place.local().glob(".partial-*"))


DIE = """
import os, signal
import stillroom.stages.estimate.probe as p
from stillroom.stages.cli.main import main
p.SECONDS = 0.3
p.Probe = lambda **_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def codecs_of(found):
    return {codec["name"]: codec for codec in found["teachers"][0]["codecs"]}


@pytest.mark.slow
def test_plans_far_larger_than_the_machine_grow_as_their_views_do(make_config):
    config = make_config({"cache": {"codec": "transform"}, "data": {"samples_per_shard": 1000}})
    found = estimated(config, samples=1_281_167, views=300)
    half, whole, double = found["plans"]
    assert [plan["views"] for plan in found["plans"]] == [150, 300, 600]
    assert whole["shards"] == 1282
    assert whole["blocks"] == 1282 * 150
    assert whole["objects"] > 3 * whole["blocks"]
    (own,) = (codec for codec in found["teachers"][0]["codecs"] if codec["name"] == "transform")
    assert whole["bytes"]["logits"] == pytest.approx(own["bytes_per_view"] * 1_281_167 * 300, rel=1e-6)
    assert whole["bytes"]["digests"] == 1282 * 150 * (2 * 1000 * 2 + 4)
    assert double["bytes"]["logits"] == pytest.approx(2 * whole["bytes"]["logits"], rel=1e-6)
    assert double["seconds"] == pytest.approx(2 * whole["seconds"], rel=0.01)
    assert half["bytes"]["seeds"] == whole["bytes"]["seeds"] >= 8 * 1_281_167
    rate = found["teachers"][0]["views_per_second"]
    assert whole["seconds"] == pytest.approx(1_281_167 * 300 / rate, rel=0.3)


@pytest.mark.slow
def test_every_codec_is_there_with_its_price_and_error(make_config):
    found = estimated(make_config({"cache": {"codec": "topk:4"}}))
    by_name = codecs_of(found)
    assert list(by_name) == ["float16", "float32", "int8", "topk:10", "sqrtp:0.05", "transform", "topk:4"]
    assert by_name["float32"]["kl_mean"] == [0.0] * 4
    assert max(by_name["transform"]["kl_mean"]) <= 0.02
    assert by_name["topk:4"]["bytes_per_view"] == pytest.approx(18, abs=1)
    assert set(found["plans"][0]["bytes_by_codec"]) == set(by_name)
    text = "\n".join(in_lines(found))
    assert "* topk:4" in text
    assert "core-hours" in text or "gpu-hours" in text


@pytest.mark.slow
def test_the_command_prints_json_alone_and_wrong_plans_are_wrong_usage(make_config, tmp_path):

    path = tmp_path / "config.toml"
    path.write_text(as_toml(make_config()))

    def command(*more):
        arguments = [sys.executable, "-c", RUN, "estimate", str(path), *more]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    done = command("--json", "--views", "6")
    assert done.returncode == 0, done.stderr
    assert [plan["views"] for plan in json.loads(done.stdout)["plans"]] == [4, 6, 12]
    wrong = command("--views", "0")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--views is 0; give a whole number above 0" in wrong.stderr


RUN = "import stillroom.stages.estimate.probe as p; p.SECONDS = 0.3; from stillroom.stages.cli.main import main; main()"


def test_without_a_teacher_there_is_nothing_to_estimate(make_config):
    config = make_config({"teacher": [], "student": {"target": "labels"}})
    with pytest.raises(ConfigError, match=r"has no \[\[teacher\]\]; add one"):
        estimated(config)


def test_a_slow_teachers_part_counts_its_reading_once_a_block():
    timed = Timed(samples=100, views=10, read=3.0, work=2.0)
    probed = Probe("float16", (timed, timed), 1.0, {"float16": Tried({"bytes_per_view": 20.0}, 1.0)}, 0, 0, 0)
    plan = Plan(2000, 20, 1000, 2, 10, 10, 0, 0)
    found = forecast(plan, probed, Known(2, 0, 0, 0, 0, 0, 1.0, 0), "float16")
    assert found.seconds == pytest.approx(1.0 + 4 * (3.0 + 1000 * 10 * 2.0 / 1000))
    assert found.bytes["logits"] == 20 * 2000 * 20
    more = forecast(replace(plan, plain=True), probed, Known(2, 0, 0, 0, 0, 0, 1.0, 0), "float16")
    assert more.seconds - found.seconds == pytest.approx(2 * (3.0 + 1000 * 2.0 / 1000))
    assert more.bytes["plain"] == 20 * 2000
    assert more.objects - found.objects == 2 + 2 * 2


@pytest.mark.parametrize(("plain", "arrays"), [(False, 1), (True, 2)])
def test_every_array_of_logits_holds_the_fitted_model(plain, arrays):
    timed = Timed(samples=100, views=10, read=3.0, work=2.0)
    tried = dict.fromkeys(("float16", "transform"), Tried({"bytes_per_view": 20.0}, 1.0))
    probed = Probe("float16", (timed, timed), 1.0, tried, 0, 0, 0)
    plan, known = Plan(2000, 20, 1000, 2, 10, 10, 0, 0, plain), Known(2, 0, 0, 0, 0, 0, 1.0, model=5000)
    sizes = [forecast(plan, probed, known, codec).bytes["metadata"] for codec in ("transform", "float16")]
    assert sizes[0] - sizes[1] == 5000 * arrays
