"""Asking a teacher once more for a share of its logits of plain views, those of the evaluation set among them."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.operations.geometry.crop import Crop, Resize
from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.render.backend import Backend
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.teacher.plain_views import PlainMaker
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.build_cache import built_once
from stillroom.stages.run.resources import threads_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import plain_layout_task, plain_task
from stillroom.storage.codecs.registry import divergence
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import StillroomError, UnreachableError

from .findings import Failure, Finding
from .views import bound_of, bounds_of, chosen_slots, teacher_at_hand, too_far

CHECK = "plain"
_BATCH = 128


def recheck_plain(config: Config, name: str, shard: int) -> Finding:
    """Read a data shard's logits of plain views as a student reads them, and make a share of them again."""
    cache = Cache(config.cache_place)
    cached = cache.teacher(name)
    finding = Finding({CHECK: 0})
    task, layout = ("cache", plain_task(name, shard)), ("cache", plain_layout_task(name))

    def failed(where: str, message: str) -> Finding:
        place = f"teacher {name}, plain views, data shard {shard}{where}"
        finding.failures.append(Failure(CHECK, place, message, task))
        return finding

    try:
        crop = cached.plain_crop()
    except UnreachableError:
        raise
    except StillroomError as error:
        if not shard:  # said once for all
            finding.failures.append(Failure(CHECK, f"teacher {name}, plain views", str(error), layout))
        return finding
    record = cache.ledger.get(task[1])
    if record is None:
        return finding  # a task that is not done, which is found elsewhere
    if crop is None:
        # What is written is good once it is laid out again.
        message = "their array is not laid out; set cache.plain = true and run `stillroom teacher`"
        finding.failures.append(Failure(CHECK, f"teacher {name}, plain views", message, None, layout))
        return finding
    try:
        logits = cached.plain(shard)
    except UnreachableError:
        raise
    except StillroomError as error:
        return failed("", str(error))
    finding.checked[CHECK] = len(logits)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        return failed(f", slot {wrong[0]}", f"logits of {len(wrong)} slots are not finite")
    data = Dataset(config.data_place)
    section = next(item for item in config.teacher if item.name == name)
    maker = maker_of(config, cache, section, data, crop)
    if maker is None:
        finding.skipped.append(f"teacher {name} was not asked again for plain views: no weights, or no GPU")
        return finding
    bounds = bounds_of(cached.info.codec, record.facts, bound_of(config, section))
    for slot, message in differing(config, maker, data, shard, logits, bounds):
        failed(f", slot {slot}", message)
    return finding


def maker_of(
    config: Config, cache: Cache, section: Teacher, data: Dataset, crop: float, resize: Resize = "bilinear"
) -> PlainMaker | None:
    """Asks a teacher again, with the cache's own backend; None where its weights, or the GPU, are not at hand."""
    backend: Backend = cache.info.views["renderer"]["backend"]
    if backend == "dali-gpu" and not torch.cuda.is_available():
        return None
    return _maker(section, classes_of(config, data, section), crop, resize, backend, threads_of(config))


@built_once
def _maker(
    section: Teacher, classes: tuple[str, ...], crop: float, resize: Resize, backend: Backend, threads: int
) -> PlainMaker | None:
    teacher = teacher_at_hand(section, classes)
    if teacher is None:
        return None
    view = (Crop(resize=resize),)
    renderer = Renderer((section.size,), _BATCH, operations=view, backend=backend, threads=threads)
    return PlainMaker(teacher, renderer, crop, _BATCH)


def differing(
    config: Config,
    maker: PlainMaker,
    data: Dataset,
    shard: int,
    logits: npt.NDArray[np.float32],
    bounds: Mapping[float, float],
) -> Iterator[tuple[int, str]]:
    """Ask for `verify.share` of a data shard's plain views again.

    Args:
        config: of the run.
        maker: asks the teacher.
        data, shard: whose views.
        logits: float32 [slot, class], the cached ones.
        bounds: by temperature, nats times T² by which the teacher may differ; see `views.bounds_of`.

    Yields:
        Slot, and what is wrong, of those that differ by more.
    """
    slots = chosen_slots(config.verify.seed, config.verify.share, shard, 0, len(logits))
    if not len(slots):
        return
    index = data.index(shard)
    now = maker.make(index, data.images(shard, index, config.render.encoded), slots)
    found = divergence(now, logits[slots], list(bounds))
    for slot, nats in zip(slots.tolist(), found.T.tolist(), strict=True):
        message = too_far(bounds, nats)
        if message:
            yield slot, f"{index.key[slot]!r}: {message}"
