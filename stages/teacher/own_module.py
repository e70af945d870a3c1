"""`stillroom.teacher`: a cache filled by any module or callable of a Python program, as the teacher stage fills it.

The same tasks, ledger, records and fingerprint; what a killed program left undone, the next one does. Students, the
report, and all of `verify` but asking again need the module no more.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any

import torch

from stillroom.pipeline.config.config import Config, load_config
from stillroom.pipeline.models.factory import Preprocessing
from stillroom.pipeline.models.given import Module, given_teacher
from stillroom.pipeline.models.teacher import LoadedTeacher
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.executor import InProcess, execute
from stillroom.stages.run.progress import NoProgress, make_progress
from stillroom.stages.run.registry import stage_named
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import pilot_task
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import ConfigError, StoreError
from stillroom.storage.writers.array_encoder import refuse_other_teacher

from .seeds import open_cache
from .worker_cache import given


def teacher(
    config: Config | str | os.PathLike[str],
    name: str,
    module: Module,
    *,
    version: str,
    preprocessing: Preprocessing | None = None,
    files: Sequence[str] = (),
    device: torch.device | str | None = None,
    overrides: Sequence[str] = (),
    verify: bool = False,
    progress: bool = True,
) -> Cache:
    """Fill a cache with the logits of a module of one's own.

    Does what `ingest` and `seeds` have not done yet first, and of the teacher's tasks those that are not done. Any
    number of programs may call it for one run at once: each task is done by one of them.

    Args:
        config: of the run, or its path. Its [[teacher]] table of that name has model = "python:NAME" and no weights;
            `size`, `batch_size`, `precision` and `classes` are its own.
        name: of the teacher.
        module: in evaluation mode; from float32 [n, 3, size, size], normalised, to logits [n, class], or to what has
            them as `.logits`. Called under `torch.inference_mode`.
        version: of what it computes; a part of the fingerprint, beside the SHA-256 of its weights.
        preprocessing: mean and standard deviation of its images; default: the table's.
        files: paths of further weights that count, as of an ONNX session behind a callable.
        device: where images are handed over; default: that of the module's weights, else the CPU.
        overrides: settings to change, as `--set` does.
        verify: do `verify` afterwards, which asks the module about a share of its views again.
        progress: show how far it is.

    Returns:
        The cache.

    Raises:
        ConfigError: there is no such table, or it is of another kind of model.
        ModelError: the module is in training mode, its answers depend on the batch, or they are no finite logits.
        FingerprintError: the cache has a teacher of that name with other weights, version or settings.
        StoreError: `verify` has found something bad; names the first.
    """
    whole = config if isinstance(config, Config) else load_config(os.fspath(config), overrides)
    section = next((item for item in whole.teacher if item.name == name), None)
    if section is None:
        raise ConfigError(
            f'the configuration has no teacher {name!r}; add [[teacher]] with name = "{name}", model = "python:{name}" '
            "and its size"
        )
    alone = whole.model_copy(update={"teacher": (section,)})
    with make_progress() if progress else nullcontext(NoProgress()) as shown, closing(InProcess()) as executor:
        for stage in ("ingest", "seeds"):
            execute(stage_named(stage), alone, executor, shown)
        data = Dataset(alone.data_place)
        classes = classes_of(alone, data, section)
        ready = given_teacher(
            section,
            len(classes),
            module,
            version=version,
            preprocessing=preprocessing,
            files=files,
            device=device,
        )
        cache = open_cache(alone, data, writing=False)
        if name in cache.teachers:
            refuse_other_teacher(name, cache.place, cache.teacher(name).info.fingerprint, ready.fingerprint)
        else:
            _forget_other_pilot(cache, name, ready)
        with given(ready):
            execute(stage_named("teacher"), alone, executor, shown)
            if verify:
                found = execute(stage_named("verify"), whole, executor, shown, again=True).concluded
                _refuse_bad(found or {})
    return open_cache(alone, data, writing=False)


def _forget_other_pilot(cache: Cache, name: str, ready: LoadedTeacher) -> None:
    """Where the codec is fitted to a pilot, and only that is there, it may be of the module's last version."""
    pilot = cache.ledger.get(pilot_task(name))
    if pilot is not None and pilot.facts["made_from"]["teacher"] != ready.fingerprint:
        cache.ledger.drop(pilot_task(name))


def _refuse_bad(found: Mapping[str, Any]) -> None:
    for failure in found.get("failures", ()):
        raise StoreError(
            f"verify found {len(found['failures'])} failures; the first, of {failure['check']}: {failure['where']}: "
            f"{failure['message']}; `stillroom verify --repair` forgets what is bad"
        )
