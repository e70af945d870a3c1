"""Whole runs in a bucket of a real S3 server that fails: they end as local ones do, or say why they do not."""

import json
import re
import threading
from collections import Counter

import fsspec
import numpy as np
import pytest
import torch
import zarr
from trials import tinyrun
from trials.flakys3 import FAULTS, SECRET, every, refusing
from trials.onetask import OneTask
from zarr.storage import FsspecStore

import stillroom
from stillroom.stages.maintenance.garbage import collect
from stillroom.stages.maintenance.seal import seal_cache
from stillroom.stages.maintenance.status import status_of
from stillroom.stages.run.places import holdings
from stillroom.stages.verify.cache import check_block, check_seeds
from stillroom.stages.verify.dataset import check_data_shard, check_description
from stillroom.stages.verify.evaluation import recheck_evaluation
from stillroom.stages.verify.objects import check_objects
from stillroom.stages.verify.repair import repair
from stillroom.stages.verify.tasks import check_tasks
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import DamagedObjectError, DataError, ModelError, UnreachableError
from stillroom.storage.ledger.claims import Claims
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.objects.retry import Retry
from stillroom.storage.objects.urls import open_place

ALL = ("ingest", "seeds", "teacher", "verify", "student", "report")
TARS = 3


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """More are not deterministic."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _client(s3_server):
    """The credentials are in the environment all the time, as the runs below outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment().items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield


@pytest.fixture
def quick(monkeypatch):
    """Little waiting between attempts."""
    monkeypatch.setattr(Retry, "wait", lambda policy, failed: 0.01)


@pytest.fixture(scope="module")
def tars(run_config, run_stages, tmp_path_factory):
    """A folder of three tars, of eight photos each, with `data.classes` as their labels."""
    config = run_config(tmp_path_factory.mktemp("tars"))
    run_stages(config, "ingest")
    return open_place(str(config.data_place.at("shards")))


@pytest.fixture(scope="module")
def make_from_tars(run_config):
    """A config that indexes tars where they lie."""

    def make(folder, tars, **changes):
        source = f"{tars}/{{000000..{TARS - 1:06d}}}.tar"
        data = {"train": source, "eval": source, "classes": ["apple", "pear", "quince"]}
        return run_config(folder, data=data, **changes)

    return make


@pytest.fixture(scope="module")
def local(make_from_tars, tars, run_stages, tmp_path_factory):
    """The run that all others must equal."""
    config = make_from_tars(tmp_path_factory.mktemp("local") / "run", tars)
    run_stages(config, *ALL)
    return config


@pytest.fixture(scope="module")
def make_remote(make_from_tars, tars, s3_server):
    """The same, tars and run in a bucket; nothing of it has been run."""

    def make(name):
        bucket = s3_server.bucket(f"bucket-{name}")
        there = open_place(f"{bucket}/tars")
        for tar in tars.list():
            there.write(tar, tars.read(tar))
        return make_from_tars(f"{bucket}/run", there)

    return make


@pytest.fixture(scope="module")
def taught(make_remote, s3_server, run_stages):
    """One with its cache filled, to be read; and the requests that each stage made."""
    config, made = make_remote("taught"), {}
    for stage in ("ingest", "seeds", "teacher"):
        with s3_server.noted() as made[stage]:
            run_stages(config, stage)
    return config, made


def fetched(place, folder):
    """A place's objects as files."""
    for name in place.list():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(place.read(name))
    return folder


def records(config):
    """Of the cache: what each task was made from and wrote. That it is verified says where the data's tars lie."""
    return {record.task: (record.fingerprint, record.objects) for record in Ledger(config.cache_place).records()}


def content(folder):
    """All that is not told of time, nor of where things lie."""
    found = tinyrun.content(folder)
    for part in ("data", "eval"):
        described = json.loads((folder / part / "dataset.json").read_text())
        found[f"{part}/dataset.json"] = json.dumps({**described, "shards": None, "ingest": None})
    return {name: value for name, value in found.items() if not name.endswith(("metrics.jsonl", "rejected.jsonl"))}


@pytest.mark.slow
def test_a_whole_run_in_a_bucket_equals_the_local_one_whatever_fails(
    local, make_remote, s3, quick, run_stages, tmp_path, capfd
):
    remote = make_remote("whole")
    with s3.noted() as requests, s3.failing(every(25)):
        run_stages(remote, *ALL)
        assert status_of(remote)["stages"]
        assert list(collect(remote)) == []
    faults = Counter(item.fault for item in requests if item.fault)
    assert set(faults) == set(FAULTS), "each kind must have been survived"
    assert sum(faults.values()) > 40
    mine, theirs = content(fetched(remote.run_place, tmp_path)), content(tinyrun_folder(local))
    assert set(mine) == set(theirs)
    assert {name for name in mine if mine[name] != theirs[name]} == set()
    assert any("/logits/c/" in name for name in mine)
    assert any(name.endswith(".safetensors") for name in mine)
    assert {**records(remote), "verified": None} == {**records(local), "verified": None}
    assert {name: summary.ran for name, summary in run_stages(remote, *ALL).items()} == dict.fromkeys(ALL, 0)
    assert not any(name.endswith((".claim", ".beat")) for name in remote.run_place.list())
    for name in remote.run_place.list():
        assert SECRET.encode() not in remote.run_place.read(name)
    assert SECRET not in "".join(capfd.readouterr())


def tinyrun_folder(config):
    folder = config.run_place.local()
    assert folder is not None
    return folder


# One read for each data shard


def test_a_student_reads_each_data_shard_by_one_request(taught, s3):
    config, _ = taught
    cache = stillroom.open(str(config.cache_place))
    loader = stillroom.ReplayLoader(cache, data=str(config.data_place), batch_size=8, size=32, seed=0)
    for epoch in range(config.views.count):
        with s3.noted() as requests:
            assert sum(len(batch.labels) for batch in loader.epoch(epoch)) == 24
        assert {item.kind for item in requests} == {"GET"}
        assert tars_in(requests) == dict.fromkeys(map(tar_name, range(TARS)), 1)
        # As docs/cluster.md counts them: 7 for a data shard, and one more when a block is met for the first time.
        found = Counter(map(_what, requests))
        each = {"tar": 1, "parquet": 1, "ingest record": 1, "seeds": 1, "logits": 2, "digests": 1}
        assert {name: found.pop(name) for name in each} == {name: number * TARS for name, number in each.items()}
        assert found.pop("metadata", 0) <= (epoch == 0), "the seeds' array is opened once"
        assert found.pop("ledger/teachers", 0) <= TARS
        assert not found


def test_a_teacher_reads_a_data_shard_once_for_each_block(taught):
    config, made = taught
    blocks = config.views.count // config.views.views_per_block
    # The evaluation set lies in the same tars, and is read once.
    assert tars_in(made["teacher"]) == dict.fromkeys(map(tar_name, range(TARS)), blocks + 1)


def test_ingest_reads_each_tar_once_for_each_part(taught):
    _, made = taught
    assert tars_in(made["ingest"]) == dict.fromkeys(map(tar_name, range(TARS)), 2)


def tar_name(number):
    return f"{number:06d}.tar"


def tars_in(requests):
    """How often each tar was read."""
    return Counter(
        item.path.rpartition("/")[2] for item in requests if item.path.endswith(".tar") and item.kind == "GET"
    )


def _what(request):
    if request.path.endswith("zarr.json"):
        return "metadata"
    for ending, name in ((".tar", "tar"), (".parquet", "parquet")):
        if request.path.endswith(ending):
            return name
    for part in ("ledger/ingest", "ledger/teachers", "seeds", "logits", "digests", "sealed"):
        if part in request.path:
            return "ingest record" if part == "ledger/ingest" else part
    return request.path


# Damage, and what is none


@pytest.mark.slow
def test_damage_in_a_bucket_is_found_and_repaired_and_the_run_sealed(taught, make_from_tars, run_stages, quick, s3):
    config, _ = taught
    remote = make_from_tars(f"{config.run.dir}-damaged", config.data.train.rpartition("/")[0])
    for name in config.run_place.list():
        remote.run_place.write(name, config.run_place.read(name))
    place = remote.cache_place
    name = next(iter(place.list("teachers/t/logits/c/1")))
    good = place.read(name)
    place.write(name, good[:-9] + bytes(9))
    with pytest.raises(DamagedObjectError, match=re.escape(name)):
        Cache(place).teacher("t").logits(1, 0)
    found = run_stages(remote, "verify", again=True)["verify"].concluded
    assert not found["ok"]
    assert any(name in failure["where"] for failure in found["failures"])
    repair(remote, [tuple(failure["redo"]) for failure in found["failures"] if failure.get("redo")])
    assert list(run_stages(remote, "teacher")["teacher"].results) == ["teachers/t/blocks/000001.000000"]
    assert place.read(name) == good
    with s3.failing(every(10, ("500", "lost", "dropped", "truncated", "SlowDown"))):
        assert run_stages(remote, "verify", again=True)["verify"].concluded["ok"]
        seal_cache(remote)
    assert Cache(place).teacher("t").logits(1, 0).shape == (8, 3)
    assert {name: summary.ran for name, summary in run_stages(remote, "seeds", "teacher").items()} == {
        "seeds": 0,
        "teacher": 0,
    }


@pytest.mark.parametrize("only", ["/cache/teachers/t/logits", "/tars/"])
def test_an_outage_is_not_taken_for_damage(taught, s3, run_stages, only):
    """What was not reached is not wrong: nothing is to be done again for it."""
    config, _ = taught
    before = records(config)
    with s3.failing(refusing("AccessDenied", only=f"GET.*{only}")), pytest.raises(UnreachableError):
        run_stages(config, "verify", again=True)
    assert records(config) == before


def _check_block(config):
    cache = Cache(config.cache_place)
    return check_block(cache, cache.teacher("t"), 0, 0)


def _check_cache(config):
    (holding,) = (item for item in holdings(config) if item.name == "cache")
    return check_objects(holding, 0, 1)


CHECKS = {
    "index": ("/data/index", lambda config: check_data_shard(config, "train", 0)),
    "tar": ("/tars/", lambda config: check_data_shard(config, "train", 0)),
    "description": ("/data/index", lambda config: check_description(config, "train")),
    "seeds": ("/cache/seeds/c", check_seeds),
    "logits": ("/logits/c", _check_block),
    "canaries": ("/canaries/c", _check_block),
    "evaluation": ("/evaluation/c", lambda config: recheck_evaluation(config, "t")),
    "records": ("/cache/ledger/teachers/t/blocks", _check_cache),
    "objects": ("/cache/seeds/c", _check_cache),
    "tasks": ("/cache/ledger/seeds", check_tasks),
    "a task": ("/cache/ledger/teachers/t/blocks", check_tasks),
    "what is ours": ("/cache/zarr.json", holdings),
    "garbage": ("/cache/ledger/teachers/t/blocks", lambda config: list(collect(config))),
}


@pytest.mark.parametrize("name", CHECKS)
def test_no_check_takes_an_outage_for_damage(taught, s3, name):
    config, _ = taught
    only, check = CHECKS[name]
    with s3.failing(refusing("AccessDenied", only=f"GET.*{only}")), pytest.raises(UnreachableError):
        check(config)


# Several writers


@pytest.mark.slow
@pytest.mark.parametrize("only", ["PUT|GET", ""], ids=["answers to writes and reads", "all answers"])
def test_writers_of_one_task_whose_answers_are_lost_leave_one_writers_work(bucket, s3, quick, only):
    """And while no DELETE is repeated, which may meet the next writer's claim, no two are at work at once."""
    cache = OneTask(f"{bucket}/contested")
    cache.create()
    working, overlaps, failures = set(), [], []

    def write(value):
        def before_write(name):
            if name.startswith("ledger/"):  # the record, after which another may begin
                working.discard(value)
            else:
                working.add(value)
                overlaps.extend([tuple(working)] if len(working) > 1 else [])

        try:
            cache.finish(value, Claims(beat=0.2, patience=3600.0), before_write=before_write, again=True)
        except Exception as error:
            failures.append(error)

    for number in range(4):
        with s3.failing(every(6, ("lost", "500", "dropped", "SlowDown"), only=only, seed=number)):
            threads = [threading.Thread(target=write, args=(10 * number + n,)) for n in range(1, 4)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        assert failures == []
        assert cache.wrong({10 * number + n for n in range(1, 4)}) == []
        cache.forget()
    assert not (only and overlaps)


# Others


def test_zarrs_own_store_reads_the_cache(taught, s3):
    config, _ = taught
    mine = Cache(config.cache_place).teacher("t").logits(1, 3)
    store = FsspecStore.from_url(f"{config.cache_place}/teachers/t", read_only=True)
    theirs = zarr.open_group(store, mode="r", use_consolidated=False)["logits"]
    assert np.array_equal(np.asarray(theirs[1, 3], np.float32)[: len(mine)], mine)
    zarr.core.sync.sync(store.fs._s3.close())


@pytest.mark.slow
def test_what_must_be_local_is_refused_by_name(run_config, run_stages, bucket, s3):
    with pytest.raises(DataError, match=r"data.train is 's3://.*, a URL; folders of images are read from"):
        run_stages(run_config(f"{bucket}/run", data={"train": f"{bucket}/photos"}), "ingest")
    config = run_config(f"{bucket}/run", teacher={"weights": f"{bucket}/teacher.safetensors"})
    with pytest.raises(ModelError, match=r"weights s3://.* are at a URL; they are read from a local file: copy them"):
        run_stages(config, "ingest", "seeds", "teacher")


def test_a_bucket_that_is_not_there_is_named(run_config, s3):
    config = run_config("s3://no-such-bucket/run")
    with pytest.raises(UnreachableError, match="there is no bucket 'no-such-bucket'"):
        Dataset(config.data_place)
