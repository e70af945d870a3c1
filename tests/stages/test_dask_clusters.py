"""Where Dask's workers come from: what is asked of dask-cuda and dask-jobqueue, and what is said where they are not."""

import multiprocessing
import os
import sys
import time
import types
from pathlib import Path

import distributed
import pytest
import torch

from stillroom.pipeline.config.submit import Submit
from stillroom.stages.executors.dask import cluster, slurm
from stillroom.stages.executors.dask.cluster import open_fleet
from stillroom.stages.executors.dask.worker import StageOnWorker
from stillroom.storage.errors import ConfigError, StillroomError


class LocalCUDACluster(distributed.LocalCluster):
    """Stands in for dask-cuda's: as there, each worker sees all GPUs, its own first."""

    asked = None

    def __init__(self, n_workers=None, threads_per_worker=1, memory_limit="auto", **options):
        type(self).asked = {"n_workers": n_workers, "threads_per_worker": threads_per_worker, **options}
        self.gpus = list(range(n_workers))
        super().__init__(
            n_workers=0, threads_per_worker=threads_per_worker, memory_limit=memory_limit, worker_class=None, **options
        )
        self.scale(n_workers)
        self.sync(self._correct_state)

    def new_worker_spec(self):
        gpu = min(set(self.gpus) - set(self.worker_spec))
        spec = {**self.new_spec, "options": dict(self.new_spec["options"])}
        spec["options"]["env"] = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, self.gpus[gpu:] + self.gpus[:gpu]))}
        return {gpu: spec}


def devices_of_a_worker():
    """Where a teacher and a renderer would be, were there the GPUs that are promised."""
    from stillroom.pipeline.device.device import own_device
    from stillroom.pipeline.render.renderer import Renderer

    torch.cuda.is_available = lambda: True
    own = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0]
    return own, str(own_device()), Renderer((32,), 4, backend="dali-gpu")._device


@pytest.mark.slow
def test_each_gpu_has_a_worker_to_which_it_is_the_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_cuda", types.SimpleNamespace(LocalCUDACluster=LocalCUDACluster))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    fleet = open_fleet("cuda", None, None, "teacher")
    try:
        found = fleet.client.run(devices_of_a_worker)
        assert sorted(found.values()) == [("0", "cuda:0", 0), ("1", "cuda:0", 0)]
        assert LocalCUDACluster.asked["n_workers"] == 2
        assert LocalCUDACluster.asked["threads_per_worker"] == 1
        assert LocalCUDACluster.asked["host"] == "127.0.0.1"
        assert fleet.threads == cluster._threads(2)
    finally:
        fleet.close()


@pytest.mark.slow
def test_a_worker_that_closing_has_left_is_ended():
    left = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), name=cluster._WORKER + " x")
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    left.start()
    other.start()
    try:
        cluster._end_children()
        assert not left.is_alive()
        assert other.is_alive()
    finally:
        for process in (left, other):
            process.kill()
            process.join()


@pytest.mark.slow
def test_nannies_call_their_workers_what_we_look_for():
    fleet = open_fleet("local", 1, None, "teacher")
    try:
        assert [child.name.startswith(cluster._WORKER) for child in multiprocessing.active_children()] == [True]
    finally:
        fleet.close()
    assert not [child for child in multiprocessing.active_children() if child.name.startswith(cluster._WORKER)]


def test_what_cuda_lacks_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no NVIDIA GPU"):
        open_fleet("cuda", None, None, "teacher")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(ConfigError, match=r"pip install 'stillroom\[cuda\]'"):
        open_fleet("cuda", None, None, "teacher")
    with pytest.raises(ConfigError, match="--workers is 3, but there are 2 GPUs"):
        open_fleet("cuda", 3, None, "teacher")


def test_what_slurm_lacks_is_said(monkeypatch, tmp_path, run_config):
    config = run_config(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StillroomError, match="no sbatch"):
        open_fleet("slurm", None, config, "teacher")
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"pip install 'stillroom\[slurm\]'"):
        open_fleet("slurm", None, config, "teacher")


@pytest.mark.parametrize(
    ("cores", "workers", "wanted", "threads"),
    [(16, 4, None, 4), (2, 2, None, 1), (2, 4, None, 1), (16, 4, "1", 1), (16, 4, "64", 4), (16, 3, "", 5)],
)
def test_workers_share_the_cores(monkeypatch, cores, workers, wanted, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert cluster._threads(workers) == threads


def script(asked, folder):
    """The batch script that dask-jobqueue makes of it."""
    from dask_jobqueue.slurm import SLURMJob

    ours = slurm.arguments(asked, "teacher", folder)
    for name in ("security", "shared_temp_directory"):  # of the cluster, not of its jobs
        del ours[name]
    return SLURMJob("tls://scheduler:1", "name", **ours).job_script()


def test_a_worker_of_slurm_is_a_job_as_the_config_wants_jobs(tmp_path, monkeypatch):
    here = tmp_path / "it's here"
    here.mkdir()
    monkeypatch.chdir(here)
    asked = Submit(
        cpus=6, gpus=1, memory="24G", time="4:00:00", partition="main", account="us",
        lines=("#SBATCH --qos=low", "module load cuda"), activate="source /env/bin/activate", python="/env/bin/python",
    )  # fmt: skip
    lines = script(asked, tmp_path / "jobs").splitlines()
    head = [line for line in lines if line.startswith("#SBATCH")]
    for option in ("--cpus-per-task=6", "--mem=24G", "-t 4:00:00", "-p main", "-A us", "--gres=gpu:1", "--qos=low"):
        assert f"#SBATCH {option}" in head, head
    logs = tmp_path / "jobs/logs"
    assert f"#SBATCH -o {logs}/stillroom-teacher-%J.out" in head
    for line in ("module load cuda", "source /env/bin/activate", "export OMP_NUM_THREADS=6"):
        assert line in lines
    assert any(line.startswith("cd '") and line.endswith("' || exit 1") for line in lines)
    (command,) = (line for line in lines if "dask_worker" in line)
    assert command.startswith("/env/bin/python -m distributed.cli.dask_worker tls://scheduler:1")
    words = command.split()
    assert words[words.index("--nthreads") + 1] == "1"
    retires, differs = (int(words[words.index(name) + 1][:-1]) for name in ("--lifetime", "--lifetime-stagger"))
    assert differs > 0
    assert 3 * 3600 < retires < retires + differs <= 4 * 3600 - slurm.MARGIN_SECONDS


def test_without_a_wall_time_the_partitions_own_holds_and_nobody_retires(tmp_path):
    text = script(Submit(), tmp_path)
    assert "\n#SBATCH -t " not in text
    assert "--lifetime" not in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("90:30", 5430), ("1:2:3", 3723), ("2-3", 183600), ("2-3:4", 183840), ("2-3:4:5", 183845)],
)
def test_slurms_wall_times(text, seconds):
    assert slurm.seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("table", "message"), [({"gpus": 2}, "submit.gpus is 2; a Dask worker uses one"), ({"time": "2"}, "must be longer")]
)
def test_what_no_worker_can_be_is_refused(tmp_path, table, message):
    with pytest.raises(ConfigError, match=message):
        slurm.arguments(Submit(**table), "teacher", tmp_path)


@pytest.mark.parametrize("name", ["a b", "100%", "it's"])
def test_a_folder_that_dask_jobqueue_does_not_quote_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"set submit\.dir"):
        slurm.arguments(Submit(), "teacher", tmp_path / name)


def watched_and_given():
    """What Dask samples of a worker, and the share of tensors' pages that the system has to give."""
    import resource

    import dask

    torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        torch.ones(2**24)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    share = pages / (30 * 2**26 / resource.getpagesize())
    return {name: dask.config.get(name) for name in cluster.UNWATCHED}, share


@pytest.mark.slow
def test_a_worker_of_ours_keeps_its_memory_and_is_not_sampled(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    fleet = open_fleet("local", 1, None, "teacher")
    try:
        before = fleet.client.run(watched_and_given)
        fleet.client.register_plugin(StageOnWorker("token", "teacher", None, False, 1, None, True), name="token")
        after = fleet.client.run(watched_and_given)
        ((watched, given),) = before.values()
        assert watched == cluster.UNWATCHED
        assert given > 0.9  # Dask has each tensor given back
        ((_, given),) = after.values()
        assert given < 0.4
    finally:
        fleet.close()
