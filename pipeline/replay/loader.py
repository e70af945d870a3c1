"""The replay loader: a student's batches, the views that the teacher saw beside the logits that it gave them.

It never sees the teacher. It proves what it hands out: each view's digest is compared with the one the teacher left.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from stillroom.pipeline.render.backend import Backend
from stillroom.storage.cache.cache import Cache
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.encoded_images import ENCODED_MB
from stillroom.storage.errors import ConfigError, MissingObjectError
from stillroom.storage.ledger.fingerprint import fingerprint_digest
from stillroom.storage.objects.urls import open_place

from .batch import Batch
from .codec_guarantee import Faithfulness, faithfulness
from .shared_pass import SharedPass, StudentRequest
from .targets import Design, TargetSource


class ReplayLoader:
    """Batches of a cache's views, epoch after epoch.

    `for batch in loader:` yields the rest of the current epoch and then stands at the next one's beginning; `epoch`
    yields any epoch, and leaves that position alone.

    Args:
        cache: seeds and recipe; and logits where a teacher is named.
        data: the ingested data set, or where it is.
        batch_size: samples in a global batch.
        size: height and width of the images in pixels.
        seed: of the order of samples.
        rank, world: this process among how many; each yields its share of every global batch.
        teacher: whose logits; default the cache's only one; "" for none; several names for the mean of their logits.
        weights: of each of several teachers in that mean; default all alike.
        design: how views and logits are paired; see `guide`.
        views: how many views to replay; default all that the teachers have finished.
        also_size: render each view at this size too.
        window: data shards of a lane that are held and shuffled together.
        proof_share: share of batches that are proved where `size` is not the teacher's; all are where it is.
        backend: where views are rendered; default the cache's own.
        threads: CPU threads for rendering.
        device: number of the GPU, for `dali-gpu`; default this process's own.
        to: device that batches are put on; default: images stay where they are rendered, the rest is on the CPU.
        allow_drift: another backend than the cache's that may render all the same; its views are not proved.
        temperature: at which the logits will be used; `faithful` then says what the cache guarantees there, and a
            warning is given where that is nothing. By teacher.
        encoded_mb: megabytes of encoded images that are held in memory at most. Where the data shards that an epoch
            holds are larger, images are fetched one by one, with the same result.

    Raises:
        StoreError: the data set or the cache is not what the cache was made with.
        ViewMismatchError: the cache's views come from another backend, which is not allowed by name.
        ConfigError: the batch is larger than the data set, the ranks do not divide the lanes, the design does not fit
            the cache, or no teacher is named and the cache has several.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        data: Dataset | str,
        batch_size: int,
        size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        teacher: str | Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        design: Design = "consistent",
        views: int | None = None,
        also_size: int | None = None,
        window: int = 2,
        proof_share: float = 1.0 / 32,
        backend: Backend | None = None,
        threads: int = 2,
        device: int | None = None,
        to: torch.device | str | None = None,
        allow_drift: Backend | None = None,
        temperature: float | None = None,
        encoded_mb: int = ENCODED_MB,
    ) -> None:
        names = [_only_teacher(cache)] if teacher is None else [teacher] if isinstance(teacher, str) else list(teacher)
        self.guide = TargetSource.of(cache, names, weights, design, size) if names != [""] else None
        self.views = _views(self.guide, views)
        self.faithful: Mapping[str, Faithfulness] = {}
        if self.guide is not None and temperature is not None:
            self.faithful = {item.name: faithfulness(item, temperature) for item in self.guide.teachers}
            for note in filter(None, (found.note for found in self.faithful.values())):
                warnings.warn(note, stacklevel=2)
        self._pass = SharedPass(
            cache,
            Dataset(open_place(data)) if isinstance(data, str) else data,
            [StudentRequest(size, self.guide, also_size)],
            batch_size=batch_size,
            seed=seed,
            views=self.views,
            rank=rank,
            world=world,
            window=window,
            proof_share=proof_share,
            backend=backend,
            threads=threads,
            device=device,
            to=None if to is None else torch.device(to),
            allow_drift=allow_drift,
            encoded_mb=encoded_mb,
        )
        self.order = self._pass.order
        self.backend = self._pass.backend
        self._at = (0, 0)

    @property
    def steps(self) -> int:
        """Global batches in an epoch."""
        return self.order.steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on: the same whenever and wherever they are asked for.

        Raises:
            ViewMismatchError: a view is not the one that the teacher saw.
            StoreError: something on disk is not what its record says.
            ConfigError: some rank would have no sample of some batch.
        """
        for (batch,) in self._pass.epoch(epoch, start):
            yield batch

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self._at
        # The position moves before a batch is handed out: a state that is taken while it is in use is the one after it.
        for number, batch in enumerate(self.epoch(epoch, start), start + 1):
            self._at = divmod(epoch * self.steps + number, self.steps)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that iteration gave, as torchdata's stateful loaders have it.

        It holds for any number of ranks.
        """
        epoch, step = self._at
        return {"epoch": epoch, "step": step, **self._shape()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            ConfigError: it is of a loader with another order of batches; names what differs.
        """
        for name, mine in self._shape().items():
            if state.get(name) != mine:
                raise ConfigError(f"the state is of a loader with {name} = {state.get(name)}, this one has {mine}")
        self._at = int(state["epoch"]), int(state["step"])

    def _shape(self) -> dict[str, Any]:
        """What the sequence of batches depends on, beside cache and data."""
        guide = self.guide
        return {
            "data": self._pass.data.description.digest,
            "cache": fingerprint_digest(self._pass.cache.info.views),
            "seed": self.order.seed,
            "batch_size": self.order.batch_size,
            "window": self.order.window,
            "views": self.views,
            "design": guide and guide.design,
            "teachers": guide
            and {item.name: weight for item, weight in zip(guide.teachers, guide.weights, strict=True)},
        }


def _views(guide: TargetSource | None, views: int | None) -> int:
    if guide is None:
        if views is None:
            raise ConfigError("without a teacher, say how many views there are")
        return views
    finished = min(teacher.finished_views() for teacher in guide.teachers)
    if not finished:
        raise MissingObjectError(
            f"teacher {guide.first.name!r} has finished no view of every data shard; run `stillroom teacher` to the end"
        )
    return finished if views is None else views


def _only_teacher(cache: Cache) -> str:
    names = cache.teachers
    if len(names) != 1:
        raise ConfigError(f"the cache has {len(names)} teachers ({', '.join(names) or 'none'}); name the one to replay")
    return names[0]
