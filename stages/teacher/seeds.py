"""Seeds: the cache's group, and one seed for each sample. What a view is, is settled from here on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.render.backend import renderer_fingerprint
from stillroom.pipeline.rng.seeds import seeds_of
from stillroom.stages.run.resources import backend_of
from stillroom.stages.run.stage import Advance, RecordLocation, Stage, Task
from stillroom.storage.cache.cache import Cache, CacheInfo, create_cache
from stillroom.storage.cache.layout import SEEDS_TASK
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.ledger.fingerprint import Fingerprint
from stillroom.storage.ledger.ledger import Ledger


def views_fingerprint(config: Config, data: Dataset) -> Fingerprint:
    """What the views of a run are made from."""
    return {
        "data": data.description.digest,
        "views": {**config.views.recipe.to_data(), "views_per_block": config.views.views_per_block},
        "views.seed": str(config.views.seed),
        "renderer": renderer_fingerprint(backend_of(config)),
    }


def cache_info(config: Config, data: Dataset) -> CacheInfo:
    """Attributes of the cache that a run makes."""
    return CacheInfo(
        recipe=config.views.recipe.to_data(),
        root_seed=config.views.seed,
        views=views_fingerprint(config, data),
        sizes=data.sizes,
        views_per_block=config.views.views_per_block,
    )


def open_cache(config: Config, data: Dataset, *, writing: bool) -> Cache:
    """The cache of a run.

    Args:
        config: the run's.
        data: the training data.
        writing: whether views are to be added. Whoever only reads may have another version of the renderer, since
            digests prove each view.

    Raises:
        MissingObjectError: there is none.
        FingerprintError: its views were made from something else.
    """
    cache = Cache(config.cache_place)
    cache.refuse_other_views(views_fingerprint(config, data), except_for=() if writing else ("renderer",))
    return cache


def tasks(config: Config) -> Sequence[Task]:
    """One task for all seeds."""
    return [Task(SEEDS_TASK, 0, Dataset(config.data_place).samples)]


def done(config: Config) -> Callable[[Task], bool]:
    """Whether there is a cache.

    Raises:
        FingerprintError: its views were made from something else.
    """
    found = Ledger(config.cache_place).get(SEEDS_TASK) is not None
    if found:
        open_cache(config, Dataset(config.data_place), writing=False)
    return lambda _: found


def run(config: Config, task: Task, advance: Advance) -> Mapping[str, Any]:  # noqa: ARG001
    """Create the cache and write the seeds."""
    data = Dataset(config.data_place)
    info = cache_info(config, data)
    seeds = (seeds_of(data.index(shard).uid, config.views.seed) for shard in range(len(data.sizes)))
    create_cache(config.cache_place, info, seeds)
    advance(data.samples)
    return {"samples": data.samples}


def homes(config: Config, task: Task) -> Sequence[RecordLocation]:
    """In the cache."""
    return [RecordLocation(config.cache_place, task.name, task.name)]


STAGE = Stage("seeds", "samples", tasks, done, run, homes=homes)
