"""A whole run: every stage, twice; stopped and gone on with; grown; and read by others."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

import stillroom
from stillroom.stages.maintenance.status import status_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DamagedObjectError, StillroomError, ViewMismatchError
from stillroom.storage.ledger.ledger import Ledger

ROOT = Path(__file__).parents[2]
ALL = ("ingest", "seeds", "teacher", "verify", "student", "report")


@pytest.fixture(scope="module")
def finished(make_run):
    return make_run(stages=ALL)


@pytest.fixture
def copied(finished, make_config, tmp_path):
    """A copy of the finished run, to be damaged."""
    shutil.copytree(finished.run.dir, tmp_path / "run")
    return make_config(folder=tmp_path / "run")


def contents(folder):
    """Digest and time of change of every file."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_a_second_run_does_nothing_and_writes_nothing(finished, run_stages):
    before = contents(finished.run.dir)
    summaries = run_stages(finished, *ALL)
    assert {name: summary.ran for name, summary in summaries.items()} == dict.fromkeys(ALL, 0)
    assert contents(finished.run.dir) == before


def test_two_runs_write_the_same_bytes(finished, make_run):
    again = make_run(stages=("ingest", "seeds", "teacher"))
    first, second = (
        {
            name: digest
            for name, (digest, _) in contents(config.run.dir).items()
            if name.startswith(("data", "eval", "cache"))
        }
        for config in (finished, again)
    )
    # Records tell how long a task took; everything else is the same.
    assert {name for name in second if first[name] != second[name]} <= {n for n in second if "/ledger/" in n}


def test_a_stopped_teacher_goes_on_with_the_missing_tasks(copied, run_stages):
    cache = Cache(copied.cache_place)
    before = contents(copied.run.dir)
    dropped = "teachers/t/blocks/000001.000000"
    cache.ledger.drop(dropped)
    for name in cache.place.list("teachers/t/logits/c/1/0"):
        cache.place.write(name, b"half written")
    with pytest.raises(StillroomError, match=r"1 blocks are missing; first data shard 1, block 0"):
        run_stages(copied, "student", again=True)
    summary = run_stages(copied, "teacher")["teacher"]
    assert list(summary.results) == [dropped]
    after = contents(copied.run.dir)
    changed = {name for name in before if before[name][0] != after[name][0]}
    assert changed <= {f"cache/ledger/{dropped}.json"}


def test_more_views_leave_what_is_there_as_it_is(copied, make_config, run_stages):
    before = contents(copied.run.dir)
    grown = make_config({"views": {"count": 6}}, folder=copied.run.dir)
    summary = run_stages(grown, "teacher")["teacher"]
    shards = len(Dataset(grown.data_place).sizes)
    assert len(summary.results) == shards + 1
    after = contents(copied.run.dir)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"cache/teachers/t/{name}zarr.json" for name in ("", "canaries/", "digests/", "logits/")}
    assert Cache(grown.cache_place).teacher("t").views == 6
    run_stages(make_config(folder=copied.run.dir), "teacher")
    assert Cache(grown.cache_place).teacher("t").views == 6, "fewer views in a config must not cut a cache"


def test_a_second_teacher_leaves_the_first_as_it_is(copied, make_config, run_stages):
    before = contents(copied.run.dir)
    first = copied.teacher[0]
    second = {**first.model_dump(), "name": "small", "size": 24}
    both = make_config({"teacher": [first.model_dump(), second]}, folder=copied.run.dir)
    run_stages(both, "teacher")
    after = contents(copied.run.dir)
    assert {name for name in before if before[name] != after[name]} == set()
    cache = Cache(both.cache_place)
    assert cache.teachers == ("small", "t")
    assert not np.array_equal(cache.teacher("small").digests(0, 0), cache.teacher("t").digests(0, 0))


def test_the_cache_opens_in_xarray_with_its_dimensions(finished):
    cache = Cache(finished.cache_place)
    opened = xarray.open_zarr(f"{finished.cache_place}/teachers/t", consolidated=False)
    assert opened["logits"].dims == ("shard", "view", "slot", "class")
    assert opened["digests"].dims == ("shard", "view", "slot")
    assert opened["canaries"].dims == ("canary", "height", "width", "channel")
    size = cache.layout.sizes[1]
    assert np.array_equal(opened["logits"][1, 3, :size].values.astype(np.float32), cache.teacher("t").logits(1, 3))
    assert np.isnan(opened["logits"][1, 3, size:].values).all()
    seeds = xarray.open_zarr(str(finished.cache_place), consolidated=False)["seeds"]
    assert seeds.dims == ("shard", "slot")


def test_anyone_can_replay_it_in_three_lines(finished):
    cache = stillroom.open(str(finished.cache_place))
    loader = stillroom.ReplayLoader(cache, data=str(finished.data_place), batch_size=16, size=32, seed=0)
    batches = list(loader.epoch(3))
    assert len(batches) == loader.steps
    for batch in batches:
        assert batch.images.shape == (16, 3, 32, 32)
        assert batch.logits.shape == (16, 10)
        assert 0.0 <= float(batch.images.min()) <= float(batch.images.max()) <= 1.0
        assert batch.proved >= 16
    seen = np.concatenate([batch.uids for batch in batches])
    assert len(set(seen)) == len(seen)


def test_an_epoch_can_be_entered_anywhere(finished):
    cache = stillroom.open(str(finished.cache_place))
    loader = stillroom.ReplayLoader(cache, data=str(finished.data_place), batch_size=16, size=32, seed=0)
    whole = list(loader.epoch(1))
    for start in (0, 1, loader.steps - 1):
        for batch, expected in zip(loader.epoch(1, start), whole[start:], strict=True):
            assert batch.images.equal(expected.images)
            assert batch.logits.equal(expected.logits)
            assert np.array_equal(batch.uids, expected.uids)


def test_a_student_of_another_size_is_proved_by_a_share_of_its_batches(finished):
    cache = stillroom.open(str(finished.cache_place))
    loader = stillroom.ReplayLoader(
        cache, data=str(finished.data_place), batch_size=16, size=24, seed=0, proof_share=0.25
    )
    proved = [batch.proved > 0 for batch in loader.epoch(0)]
    assert proved == [number % 4 == 0 for number in range(loader.steps)]


def test_every_logit_is_the_teachers_own_for_the_image_that_comes_with_it(finished):
    from stillroom.pipeline.models.teacher import load_teacher

    cache, data = Cache(finished.cache_place), Dataset(finished.data_place)
    teacher = load_teacher(finished.teacher[0], data.classes)
    loader = stillroom.ReplayLoader(cache, data=data, batch_size=16, size=32, seed=5)
    for batch in loader.epoch(2):
        np.testing.assert_allclose(teacher(batch.images).numpy(), batch.logits.numpy(), atol=0.05)


def test_a_changed_view_is_refused_by_the_student(copied, monkeypatch):
    cache = Cache(copied.cache_place)
    monkeypatch.setattr("stillroom.pipeline.replay.shard_views.draw_views", _one_pixel_off)
    loader = stillroom.ReplayLoader(cache, data=str(copied.data_place), batch_size=16, size=32, seed=0)
    with pytest.raises(ViewMismatchError, match=r"is not what teacher t saw: digest"):
        list(loader.epoch(0))


def _one_pixel_off(recipe, seeds, view, heights, widths):
    from stillroom.pipeline.augment.recipe import Views, draw_views

    views = draw_views(recipe, seeds, view, heights, widths)
    window = views.window.copy()
    window[:, 3] = np.maximum(1, window[:, 3] - 1)
    return Views({**views.drawn, "crop": window})


@pytest.mark.parametrize(
    ("name", "check", "where"),
    [
        ("cache/teachers/t/logits/c/1/1/0/0", "objects", "cache: teachers/t/logits/c/1/1/0/0"),
        ("cache/teachers/t/digests/c/0/1/0", "objects", "cache: teachers/t/digests/c/0/1/0"),
        ("cache/seeds/c/0/0", "objects", "cache: seeds/c/0/0"),
        ("cache/zarr.json", "objects", "cache: zarr.json"),
        ("data/shards/000001.tar", "objects", "train: shards/000001.tar"),
        ("data/index/000000.parquet", "objects", "train: index/000000.parquet"),
        ("eval/shards/000000.tar", "objects", "eval: shards/000000.tar"),
        ("cache/ledger/teachers/t/blocks/000000.000001.json", "objects", "000000.000001.json"),
    ],
)
def test_verify_finds_one_flipped_bit_and_names_the_object(copied, name, check, where, verify):
    path = Path(copied.run.dir) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    outcome = verify(copied)
    assert not outcome["ok"]
    assert any(failure["check"] == check and where in failure["where"] for failure in outcome["failures"])


def test_verify_finds_views_that_were_rendered_otherwise_and_names_shard_and_view(copied, monkeypatch, verify):
    monkeypatch.setattr("stillroom.stages.verify.views.draw_views", _one_pixel_off)
    failures = verify(copied)["failures"]
    assert {failure["check"] for failure in failures} >= {"digests"}
    assert any("data shard 0, view 0, slot" in failure["where"] for failure in failures)


def test_verify_finds_logits_of_another_teacher(copied, verify):
    place, ledger = copied.cache_place, Cache(copied.cache_place).ledger
    swapped = {"teachers/t/logits/c/0/0/0/0": "teachers/t/logits/c/1/0/0/0"}
    from dataclasses import replace

    from stillroom.storage.ledger.ledger import ObjectDigest

    for name, other in swapped.items():
        data = place.read(other)
        record = ledger.get("teachers/t/blocks/000000.000000")
        place.write(name, data)
        ledger.put(replace(record, objects={**record.objects, name: ObjectDigest.of(data)}))
    failures = verify(copied)["failures"]
    assert {failure["check"] for failure in failures} == {"teacher"}
    assert all("data shard 0, view" in failure["where"] for failure in failures)


def test_a_failed_verify_takes_back_the_record_of_an_earlier_one(copied, run_stages, verify):
    assert run_stages(copied, "verify")["verify"].ran == 0
    path = Path(copied.run.dir) / "cache/seeds/c/0/0"
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    assert not verify(copied)["ok"]
    path.write_bytes(good)
    assert run_stages(copied, "verify")["verify"].ran > 0


def test_a_teacher_that_was_stopped_before_its_first_record_is_laid_out_again(copied, make_config, run_stages):
    (Path(copied.run.dir) / "cache/ledger/teachers/new/layout").mkdir(parents=True)
    assert Cache(copied.cache_place).teachers == ("t",)
    both = [copied.teacher[0].model_dump(), {**copied.teacher[0].model_dump(), "name": "new", "size": 24}]
    config = make_config({"teacher": both}, folder=copied.run.dir)
    run_stages(config, "teacher")
    assert Cache(copied.cache_place).teachers == ("new", "t")


def test_verify_finds_a_missing_block(copied, verify):
    Ledger(copied.cache_place).drop("teachers/t/blocks/000000.000001")
    failures = verify(copied)["failures"]
    assert any("data shard 0, block 1" in failure["where"] for failure in failures)


def test_a_student_refuses_a_damaged_shard_by_name(copied):
    path = Path(copied.run.dir) / "cache/teachers/t/logits/c/1/0/0/0"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    loader = stillroom.ReplayLoader(
        stillroom.open(str(copied.cache_place)), data=str(copied.data_place), batch_size=16, size=32, seed=0
    )
    with pytest.raises(DamagedObjectError, match="teachers/t/logits/c/1/0/0/0 is damaged"):
        [batch for epoch in range(4) for batch in loader.epoch(epoch)]


def test_status_counts_what_is_done(copied):
    by_name = {line["stage"]: line for line in status_of(copied)["stages"]}
    assert by_name["teacher"]["done"] == by_name["teacher"]["tasks"]
    Cache(copied.cache_place).ledger.drop("teachers/t/blocks/000001.000001")
    by_name = {line["stage"]: line for line in status_of(copied)["stages"]}
    assert by_name["teacher"]["done"] == by_name["teacher"]["tasks"] - 1


@pytest.mark.slow
def test_tasks_run_on_dask_write_the_same_cache(finished, make_config, tmp_path, run_stages):
    """Through the command, in a process of its own."""
    config = make_config(folder=tmp_path / "run")
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    toml = tmp_path / "config.toml"
    toml.write_text(_toml(json.loads(path.read_text())))
    command = [sys.executable, "-m", "stillroom.stages", "teacher", str(toml), "--dask", "local", "--workers", "2"]
    for stage in ("ingest", "seeds"):
        run_stages(config, stage)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mine, theirs = contents(config.run.dir), contents(finished.run.dir)
    arrays = [name for name in theirs if name.startswith("cache/teachers")]
    assert arrays
    assert {name: mine[name][0] for name in arrays} == {name: theirs[name][0] for name in arrays}


@pytest.fixture
def verify(run_stages):
    """Verifies a run; what the command prints with --json."""
    return lambda config: run_stages(config, "verify", again=True)["verify"].concluded


def _toml(data):
    lines = []
    for table, values in data.items():
        for item in values if isinstance(values, list) else [values]:
            lines.append(f"[[{table}]]" if isinstance(values, list) else f"[{table}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in item.items() if value is not None]
    return "\n".join(lines)


def test_the_readmes_python_runs(make_config, run_stages, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = make_config({"teacher": {"name": "resnet10"}, "student": {"batch_size": 64}}, folder="runs/demo")
    run_stages(config, "ingest", "seeds", "teacher")
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})
    assert "torch.Size([64, 3, 32, 32]) torch.Size([64, 10])" in capsys.readouterr().out
