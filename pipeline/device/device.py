"""Which device is this process's own: one GPU for each process of a machine, where there are any.

Knows the environment of launchers; nothing of models or pixels.
"""

import os

import torch


def own_device() -> torch.device:
    """This process's GPU, with its number; the CPU where there is none.

    torchrun shows every rank all GPUs and says LOCAL_RANK. Slurm's `--gpus-per-task`, Kubernetes and Dask-CUDA show
    each process its own alone, by CUDA_VISIBLE_DEVICES: that one is number 0, whatever LOCAL_RANK says, so the rank
    wraps around. Without a rank it is the GPU that the process has chosen, by `torch.cuda.set_device`, or the first.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    stated = os.environ.get("LOCAL_RANK")
    if stated is not None:
        return torch.device("cuda", int(stated) % torch.cuda.device_count())
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.device("cuda", torch.cuda.current_device() if begun else 0)
