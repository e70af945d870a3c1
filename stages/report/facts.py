"""What a report says of data, cache and teachers: plain figures, added up from the records and a few drawn parameters.

Reads ledgers and attributes, never logits. Knows nothing of how a page looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.augment.recipe import Recipe, draw_views
from stillroom.pipeline.config.config import Config
from stillroom.pipeline.models.factory import build_model
from stillroom.stages.run.stage import Task
from stillroom.stages.teacher.seeds import open_cache
from stillroom.stages.verify import stage
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import CANARIES, DIGESTS, LOGITS, evaluation_task, plain_folder, teacher_folder
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.errors import MissingObjectError, ModelError
from stillroom.storage.ledger.fingerprint import fingerprint_digest
from stillroom.storage.writers.loss_summary import join_losses

_DRAWN = 20_000
"""Views whose parameters are drawn for the histograms, about."""
_TOLD = 2_000
"""Views that are put into words."""
_SIDE = 224
"""Pixels of a view's side for which shares of boxes are counted."""


@dataclass(frozen=True)
class DataFacts:
    """The images.

    Attributes:
        samples, shards, rejected: counts.
        classes: names in label order; empty where the images have no labels.
        evaluation: samples of the evaluation set; None without one.
        tar_bytes: size of the data shards that ingest wrote; 0 where existing tars stay where they are.
    """

    samples: int
    shards: int
    rejected: int
    classes: tuple[str, ...]
    evaluation: int | None
    tar_bytes: int


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher in the cache.

    Attributes:
        name: the teacher's.
        fingerprint: what its logits depend on besides the views.
        codec: how they are stored.
        parameters: trainable numbers of the model; None where it cannot be built here.
        classes: extent of the class axis.
        views, planned: views whose block is done, and views of the whole run.
        logits_bytes, digests_bytes, canaries_bytes, other_bytes: sizes of its objects; the last: metadata, logits on
            the evaluation set and of plain views.
        seconds: of all blocks, summed over workers.
        entropy, top1: over the cached views, in nats and as a share; None without a view, or without labels.
        lost: what the codec lost, see `loss_summary.join_losses`; None where no block says.
        plain: the same of plain views; None without them.
        evaluation: "samples", "top1", "top5", "entropy" on the evaluation set; empty without one.
    """

    name: str
    fingerprint: Mapping[str, Any]
    codec: str
    parameters: int | None
    classes: int
    views: int
    planned: int
    logits_bytes: int
    digests_bytes: int
    canaries_bytes: int
    other_bytes: int
    seconds: float
    entropy: float | None
    top1: float | None
    lost: Mapping[str, Any] | None
    plain: Mapping[str, Any] | None
    evaluation: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """All that it takes."""
        return self.logits_bytes + self.digests_bytes + self.canaries_bytes + self.other_bytes

    @property
    def bytes_per_view(self) -> float:
        """Sizes of all objects of its blocks, by views."""
        return (self.logits_bytes + self.digests_bytes + self.canaries_bytes) / self.views

    @property
    def float32_bytes(self) -> int:
        """What the logits of the same views are as plain float32."""
        return self.views * self.classes * 4

    @property
    def smaller(self) -> float:
        """How many times smaller the logits are than float32."""
        return self.float32_bytes / self.logits_bytes

    def predicted(self, times: int) -> float:
        """Bytes with that many times the run's views; canaries and evaluation stay as they are."""
        each = (self.logits_bytes + self.digests_bytes) / self.views
        return each * self.planned * times + self.canaries_bytes + self.other_bytes


@dataclass(frozen=True)
class Verified:
    """What the last verification said.

    Attributes:
        checks: by check, "checked" and "failed"; "kl_mean" and "kl_max" in nats for the teacher's.
        current: whether the records are still those that were verified.
    """

    checks: Mapping[str, Mapping[str, Any]]
    current: bool


@dataclass(frozen=True)
class Drawn:
    """Parameters of some of a run's views.

    Attributes:
        area: float64 [n], share of the image that a crop covers.
        aspect: float64 [n], width over height of a crop.
        share: float64 [n], λ of those that are mixed; empty without mixing.
        samples: how many samples they are of.
        operations: what else acts on views.
    """

    area: npt.NDArray[np.float64]
    aspect: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    samples: int
    operations: "tuple[Acted, ...]"


@dataclass(frozen=True)
class Acted:
    """An operation at work.

    Attributes:
        op: its name.
        share: of the views that it acted on.
        examples: what it did to three of them, in words.
    """

    op: str
    share: float
    examples: tuple[str, ...]


def data_facts(config: Config, data: Dataset) -> DataFacts:
    """Counts of the data set."""
    written = [item for record in data.ledger.records("ingest") for item in record.objects.items()]
    return DataFacts(
        samples=data.samples,
        shards=len(data.sizes),
        rejected=data.description.rejected,
        classes=data.classes,
        evaluation=_evaluation_samples(config),
        tar_bytes=sum(item.size for name, item in written if name.endswith(".tar")),
    )


def cache_of(config: Config, data: Dataset) -> Cache | None:
    """The run's cache, or None where there is none yet."""
    try:
        return open_cache(config, data, writing=False)
    except MissingObjectError:
        return None


def teacher_facts(config: Config, cache: Cache, name: str) -> TeacherFacts:
    """Figures of a teacher's records."""
    info = cache.teacher(name).info
    blocks = list(cache.ledger.records(f"{teacher_folder(name)}/blocks"))
    others = [cache.ledger.get(task) for task in cache.ledger.tasks(teacher_folder(name)) if "/blocks/" not in task]
    sizes = dict.fromkeys((LOGITS, DIGESTS, CANARIES), 0)
    for record in blocks:
        for written, item in record.objects.items():
            sizes[written.split("/")[2]] += item.size
    views = sum(record.facts["views"] for record in blocks)
    evaluated = cache.ledger.get(evaluation_task(name))

    def mean(figure: str) -> float | None:
        if not all(figure in record.facts for record in blocks) or not views:
            return None
        return float(sum(record.facts[figure] * record.facts["views"] for record in blocks) / views)

    return TeacherFacts(
        name=name,
        fingerprint=info.fingerprint,
        codec=info.codec,
        parameters=parameters_of(info.fingerprint["model"], info.classes),
        classes=info.classes,
        views=views,
        planned=sum(cache.layout.sizes) * config.views.count,
        logits_bytes=sizes[LOGITS],
        digests_bytes=sizes[DIGESTS],
        canaries_bytes=sizes[CANARIES],
        other_bytes=sum(item.size for record in others if record for item in record.objects.values()),
        seconds=sum(record.facts["seconds"] for record in blocks),
        entropy=mean("entropy"),
        top1=mean("top1"),
        lost=join_losses(record.facts for record in blocks),
        plain=join_losses(record.facts for record in cache.ledger.records(plain_folder(name))),
        evaluation=evaluated.facts if evaluated is not None else {},
    )


def verified(config: Config, cache: Cache) -> Verified | None:
    """The last verification that found nothing wrong, if any."""
    record = cache.ledger.get(stage.TASK)
    if record is None:
        return None
    return Verified(record.facts["checks"], stage.done(config)(Task(stage.TASK)))


def drawn_views(config: Config, cache: Cache, data: Dataset) -> Drawn:
    """Draw the parameters of some views again, of whole data shards from the first on."""
    recipe = Recipe.from_data(cache.info.recipe)
    area, aspect, shares, samples = [], [], [], 0
    told: dict[str, list[str]] = {item.op: [] for item in recipe.acting[1:]}
    for shard, size in enumerate(data.sizes):
        index, seeds = data.index(shard), cache.seeds(shard)
        samples += size
        for view in range(min(config.views.count, max(1, _DRAWN // size))):
            views = draw_views(recipe, seeds, view, index.height, index.width)
            window = views.window.astype(np.float64)
            for item in recipe.acting[1:]:
                told[item.op] += [item.told(row) for row in views.drawn[item.op][: _TOLD - len(told[item.op])]]
            area.append(window[:, 2] * window[:, 3] / (index.height.astype(np.float64) * index.width))
            aspect.append(window[:, 3] / window[:, 2])
            mix = recipe.mixing.draw(seeds, view)
            shares.append(mix.own_share(_SIDE)[mix.partner != np.arange(size)].astype(np.float64))
        if sum(map(len, area)) >= _DRAWN:
            break
    acted = tuple(
        Acted(op, sum(map(bool, words)) / len(words), tuple(dict.fromkeys(filter(None, words)))[:3])
        for op, words in told.items()
    )
    return Drawn(np.concatenate(area), np.concatenate(aspect), np.concatenate(shares), samples, acted)


def parameters_of(model: str, classes: int) -> int | None:
    """Trainable numbers of a model, counted without memory for them; None where it cannot be built here."""
    try:
        with torch.device("meta"):
            built = build_model(model, classes)
    except ModelError:
        return None
    return sum(parameter.numel() for parameter in built.parameters())


def fingerprints(data: Dataset, cache: Cache | None) -> dict[str, str]:
    """Digests of what a run was made from, by name."""
    found = {"data": data.description.digest}
    if cache is not None:
        found["views"] = fingerprint_digest(cache.info.views)
        for name in cache.teachers:
            fingerprint = cache.teacher(name).info.fingerprint
            found[f"teacher {name}"] = fingerprint_digest(fingerprint)
            found[f"teacher {name}, SHA-256 of the weights"] = fingerprint["weights"]
    return found


def _evaluation_samples(config: Config) -> int | None:
    if not config.data.evaluates:
        return None
    try:
        return Dataset(config.eval_place).samples
    except MissingObjectError:
        return None
