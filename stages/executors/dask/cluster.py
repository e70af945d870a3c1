"""Where a Dask cluster comes from: processes of this machine, one for each of its GPUs, Slurm's jobs, or a running one.

Each worker does one task at a time. Knows nothing of tasks.
"""

import logging
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dask
import distributed

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.submit import asked_for
from stillroom.stages.run.resources import share_of_cores
from stillroom.storage.errors import ConfigError, StillroomError

from . import slurm

LOCAL, CUDA, SLURM = "local", "cuda", "slurm"
_HERE = "127.0.0.1"
_PAGES = f"{_HERE}:0"
"""Dask's web pages: ports of their own, so that several runs get on, and for nobody elsewhere."""
_LOCAL_WORKERS = 2
UNWATCHED: Mapping[str, Any] = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""Dask samples what its workers do a hundred times a second, and looks at its event loops fifty times: together a
twentieth of a core for each process. Whoever started a cluster of their own has that as they set it."""
_ANSWER_SECONDS = 20
_CLOSE_SECONDS = 2
_WORKER = "Dask Worker process"
"""What distributed's nannies call theirs."""
_GONE = (OSError, TimeoutError, ValueError, RuntimeError)
"""What a client raises where the scheduler is gone: nothing answers, or the client has closed itself by then."""


@dataclass(frozen=True)
class Fleet:
    """Workers, and the way to them.

    Attributes:
        client: of their scheduler.
        cluster: ours to close; None where others started it.
        jobs: how many a batch system is asked for; 0 where there is none.
        threads: CPU threads of each worker; None: as many as it was started with.
        lifetime: seconds after which a worker begins no more tasks; None: never.
        here: whether they are this process's own children.
        about: where they come from and what they have to say, for people.
    """

    client: Any
    cluster: Any
    jobs: int
    threads: int | None
    lifetime: int | None
    here: bool
    about: str

    def workers(self) -> list[str]:
        """Addresses of those that are there now.

        Raises:
            StillroomError: the scheduler is gone.
        """
        try:
            return sorted(self.client.nthreads())
        except _GONE as error:
            raise StillroomError(f"the Dask scheduler does not answer any more ({self.about}): {error}") from error

    def withdraw(self, token: str) -> None:
        """Have workers drop what was registered with them by that name, where the scheduler is still there."""
        with suppress(*_GONE):
            self.client.unregister_worker_plugin(token)

    def mend(self) -> None:
        """Ask again for jobs that have ended; local workers are started again by themselves."""
        if self.jobs:
            self.cluster.scale(jobs=self.jobs)

    def close(self) -> None:
        """End what we started."""
        with suppress(*_GONE):
            self.client.close(timeout=_CLOSE_SECONDS)
        if self.cluster is not None:
            # Nothing is in hand; a process that has torch in it takes long to end by itself, and says so.
            logging.getLogger("distributed.nanny").setLevel(logging.ERROR)
            with suppress(OSError, TimeoutError):
                self.cluster.close(timeout=_CLOSE_SECONDS)
        if self.here:
            _end_children()


def _end_children() -> None:
    """End workers that closing the cluster has left.

    One that was being started again just then stays, and leaves signals to us (see `worker`): this process would
    wait for it for ever when it ends.
    """
    for child in multiprocessing.active_children():
        if child.name.startswith(_WORKER):
            child.kill()
            child.join()


def open_fleet(where: str, workers: int | None, config: Config, stage: str) -> Fleet:
    """Start workers, or find them.

    Args:
        where: "local", "cuda", "slurm", or the address of a scheduler.
        workers: how many; None: two here, one for each GPU, or as many as [submit] says.
        config: of the run; its [submit] tables say what Slurm is asked for.
        stage: for which.

    Raises:
        ConfigError: no scheduler answers there, a package is missing, or there is no GPU.
        StillroomError: there is no Slurm.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers is {workers}; at least one must work")
    with dask.config.set(UNWATCHED):
        if where == LOCAL:
            return _local(workers or _LOCAL_WORKERS)
        if where == CUDA:
            return _cuda(workers)
        if where == SLURM:
            return _slurm(workers, config, stage)
    if workers is not None:
        raise ConfigError(f"--workers is for --dask local, cuda and slurm; {where} has the workers that it has")
    try:
        client = distributed.Client(where, timeout=_ANSWER_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {where!r}: {error}") from error
    return Fleet(client, None, 0, None, None, False, f"scheduler {where}; its workers have logs of their own")


def _local(workers: int) -> Fleet:
    cluster = distributed.LocalCluster(n_workers=workers, **_of_this_machine())
    return _ours(cluster, 0, _threads(workers), "processes of this machine; what they say is above", here=True)


def _cuda(workers: int | None) -> Fleet:
    """One worker for each GPU; CUDA_VISIBLE_DEVICES of each begins with its own, which is device 0 to it."""
    import torch

    gpus = torch.cuda.device_count()
    if not gpus:
        raise ConfigError("--dask cuda: this machine has no NVIDIA GPU, or its driver does not work; see `nvidia-smi`")
    if workers is not None and workers > gpus:
        raise ConfigError(f"--workers is {workers}, but there are {gpus} GPUs, and each has one worker")
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise ConfigError(f"--dask cuda needs dask-cuda ({error}): pip install 'stillroom[cuda]'") from error
    cluster = LocalCUDACluster(n_workers=workers or gpus, **_of_this_machine())
    about = f"{workers or gpus} GPUs of this machine; what their workers say is above"
    return _ours(cluster, 0, _threads(workers or gpus), about, here=True)


def _slurm(workers: int | None, config: Config, stage: str) -> Fleet:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise ConfigError(f"--dask slurm needs dask-jobqueue ({error}): pip install 'stillroom[slurm]'") from error
    if shutil.which("sbatch") is None:
        raise StillroomError("there is no sbatch on this machine; start this where Slurm is")
    asked, folder = asked_for(config.submit, stage), config.jobs_folder
    jobs = workers or asked.jobs or slurm.JOBS
    arguments = slurm.arguments(asked, stage, folder)
    settings = dask.config.get("jobqueue.slurm.scheduler-options", None) or {}  # a site's own
    arguments["scheduler_options"] = {"dashboard_address": _PAGES, **settings}
    said = [f"export DASK_{name.upper().replace('.', '__')}={value}" for name, value in UNWATCHED.items()]
    arguments["job_script_prologue"] = [*said, *arguments["job_script_prologue"]]
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    cluster = SLURMCluster(**arguments)
    cluster.scale(jobs=jobs)
    about = f"{jobs} jobs of Slurm, logs in {folder / 'logs'}"
    return _ours(cluster, jobs, asked.cpus, about, lifetime=slurm.lifetime_of(asked))


def _of_this_machine() -> Mapping[str, Any]:
    return {
        "threads_per_worker": 1,
        "processes": True,
        "host": _HERE,
        "dashboard_address": _PAGES,
        "worker_dashboard_address": _PAGES,
        "memory_limit": None,  # a worker's memory is the model's and the renderer's, which Dask can move nowhere
    }


def _threads(workers: int) -> int:
    """A worker's share of the cores; no more than OMP_NUM_THREADS, where a person has set that."""
    share = share_of_cores(workers)
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(wanted)) if wanted.isdecimal() and int(wanted) else share


def _ours(
    cluster: Any, jobs: int, threads: int, about: str, *, lifetime: int | None = None, here: bool = False
) -> Fleet:
    return Fleet(distributed.Client(cluster, timeout=_ANSWER_SECONDS), cluster, jobs, threads, lifetime, here, about)
