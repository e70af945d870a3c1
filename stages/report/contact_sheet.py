"""The contact sheet: views that the teacher saw and the cache kept whole, beside the same views made again from seeds.

What is stored and what is replayed are compared byte by byte; the rest is for the eye.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from stillroom.pipeline.augment.mixing import Mix
from stillroom.pipeline.augment.recipe import CROP, Recipe, Views, draw_views
from stillroom.pipeline.config.config import Config
from stillroom.pipeline.render.backend import Backend, backend_at_hand
from stillroom.pipeline.render.mixing import to_images
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.stages.ingest.class_names import names_of
from stillroom.stages.run.resources import threads_of
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.teacher_logits import Canary, TeacherLogits
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.index import ShardIndex

CANARIES_SHOWN = 8
_SHOWN = 160
"""Pixels of a picture's longer side at most. Comparing is done before, on all of them."""
_SOURCE = 1024
"""Pixels at which a source is rendered at most, before it is made small."""


@dataclass(frozen=True)
class Mixture:
    """What the teacher was given: a view and its partner's, and what it made of them.

    Attributes:
        picture: the mixed image, as a data: URI.
        share: λ, the view's own share.
        partner: label of the partner.
    """

    picture: str
    share: float
    partner: str


@dataclass(frozen=True)
class Pictured:
    """A canary.

    Attributes:
        key, label: of the sample; "no label" in a data set without labels.
        shard, view, slot: which view it is.
        source, stored, replayed: data: URIs: the whole image, the view in the cache, the view made again.
        shape: height and width of the whole image in pixels.
        window: top, left, height, width of the crop, in per cent of the image.
        area: share of the image that the crop covers.
        done: what else was done to it, in words.
        differing: bytes in which stored and replayed differ.
        mixture: with whom it is mixed; None where alone.
        answers: the teacher's first classes and their probabilities.
    """

    key: str
    label: str
    shard: int
    view: int
    slot: int
    source: str
    stored: str
    replayed: str
    shape: tuple[int, int]
    window: tuple[float, float, float, float]
    area: float
    done: str
    differing: int
    mixture: Mixture | None
    answers: tuple[tuple[str, float], ...]

    @property
    def state(self) -> str:
        """Whether the replayed view is the stored one, in words."""
        return "identical" if not self.differing else f"{self.differing:,} of the bytes differ"


@dataclass(frozen=True)
class ContactSheet:
    """A teacher's canaries.

    Attributes:
        pictured: at most eight of them.
        canaries: how many the cache keeps.
        size: height and width of the views in pixels.
        backend, made_on: what renders here, and what rendered for the cache.
    """

    pictured: tuple[Pictured, ...]
    canaries: int
    size: int
    backend: str
    made_on: str


def contact_sheet(config: Config, cache: Cache, data: Dataset, name: str) -> ContactSheet:
    """Make a teacher's canaries again.

    Raises:
        StoreError: data, seeds, logits or canaries are not what was written.
    """
    teacher = cache.teacher(name)
    canaries = teacher.canaries()
    shown = canaries[:CANARIES_SHOWN]
    made_on: Backend = cache.info.views["renderer"]["backend"]
    backend = backend_at_hand(made_on, Recipe.from_data(cache.info.recipe))
    indexes = {shard: data.index(shard) for shard in sorted({canary.shard for canary in shown})}
    pictured: dict[int, Pictured] = {}
    if shown:
        table = _LightTable(config, cache, data, teacher, backend, _source_size(shown, indexes))
        for shard, index in indexes.items():
            images = data.images(shard, index, config.render.encoded)
            here = [number for number, canary in enumerate(shown) if canary.shard == shard]
            pictured |= {number: table.picture(shown[number], index, images) for number in here}
    ordered = tuple(pictured[number] for number in sorted(pictured))
    return ContactSheet(ordered, len(canaries), teacher.info.size, backend, made_on)


class _LightTable:
    """Renders canaries and their sources.

    Args:
        config, cache, data: of the run.
        teacher: whose canaries.
        backend: where rendering runs.
        source_size: height and width in pixels at which whole images are rendered.
    """

    def __init__(
        self, config: Config, cache: Cache, data: Dataset, teacher: TeacherLogits, backend: Backend, source_size: int
    ) -> None:
        self.cache = cache
        self.labels = data.classes
        self.classes = names_of(config, data, teacher)
        self.teacher = teacher
        self.recipe = Recipe.from_data(cache.info.recipe)
        threads = threads_of(config)
        self.views = Renderer((teacher.info.size,), 2, operations=self.recipe.acting, backend=backend, threads=threads)
        self.sources = Renderer((source_size,), 1, backend=backend, threads=threads)

    def picture(self, canary: Canary, index: ShardIndex, images: Sequence[npt.NDArray[np.uint8]]) -> Pictured:
        """One canary, from its data shard's index and encoded images."""
        seeds, slot = self.cache.seeds(canary.shard), canary.slot
        drawn = draw_views(self.recipe, seeds, canary.view, index.height, index.width)
        mix = self.recipe.mixing.draw(seeds, canary.view).take(np.array([slot]))
        rows = np.array([slot, mix.partner[0]], np.int64)
        pixels = self.views.render(Request([images[row] for row in rows], [drawn.take(rows)]))[0][0].cpu()
        shape = int(index.height[slot]), int(index.width[slot])
        top, left, height, width = (int(value) for value in drawn.window[slot])
        return Pictured(
            key=index.key[slot],
            label=self._label(index, slot),
            shard=canary.shard,
            view=canary.view,
            slot=slot,
            source=self._source(images[slot], shape),
            stored=_picture(torch.from_numpy(canary.pixels)),
            replayed=_picture(pixels[0]),
            shape=shape,
            window=(100 * top / shape[0], 100 * left / shape[1], 100 * height / shape[0], 100 * width / shape[1]),
            area=height * width / (shape[0] * shape[1]),
            done=self.recipe.told(drawn, slot),
            differing=int(np.count_nonzero(pixels[0].numpy() != canary.pixels)),
            mixture=None
            if rows[0] == rows[1]
            else Mixture(
                _mixed(pixels, mix), float(mix.own_share(self.teacher.info.size)[0]), self._label(index, int(rows[1]))
            ),
            answers=self._answers(canary),
        )

    def _label(self, index: ShardIndex, slot: int) -> str:
        return self.labels[index.label[slot]] if self.labels else "no label"

    def _source(self, image: npt.NDArray[np.uint8], shape: tuple[int, int]) -> str:
        """The whole image, in its own proportions."""
        whole = Views({CROP: np.array([[0, 0, *shape]], np.int32)})
        return _picture(self.sources.render(Request([image], [whole]))[0][0, 0].cpu(), shape)

    def _answers(self, canary: Canary) -> tuple[tuple[str, float], ...]:
        logits = torch.from_numpy(self.teacher.logits(canary.shard, canary.view)[canary.slot])
        best = logits.softmax(0).topk(min(3, len(self.classes)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return tuple((self.classes[place], value) for place, value in pairs)


def _source_size(shown: Sequence[Canary], indexes: Mapping[int, ShardIndex]) -> int:
    """The longest side among the images shown, but no more than can be made small well."""
    sides = [max(indexes[item.shard].height[item.slot], indexes[item.shard].width[item.slot]) for item in shown]
    return min(_SOURCE, int(max(sides)))


def _mixed(pixels: torch.Tensor, mix: Mix) -> str:
    """The first of two views mixed with the second, as the teacher was given it but rounded to whole levels."""
    mixed = to_images(pixels, np.array([0]), np.array([1]), mix)[0] * 255.0
    return _picture(mixed.round().to(torch.uint8).permute(1, 2, 0))


def _picture(pixels: torch.Tensor, shape: tuple[int, int] | None = None) -> str:
    """uint8 [height, width, 3] as a PNG in a data: URI, made small where it is large.

    Args:
        pixels: the picture.
        shape: height and width whose proportions it gets; its own by default.
    """
    height, width = shape or (pixels.shape[0], pixels.shape[1])
    scale = min(1.0, _SHOWN / max(height, width))
    target = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels.numpy())
    if target != image.size:
        image = image.resize(target, Image.Resampling.BILINEAR)
    sink = io.BytesIO()
    image.save(sink, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
