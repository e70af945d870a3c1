"""A timed probe: some of the teacher's work done for real, on a scratch cache, to learn what all of it would take.

Views are rendered, classified, encoded, measured and written exactly as the teacher stage does it. Nothing of it stays.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.teacher.blocks import Block, BlockMaker
from stillroom.pipeline.teacher.pilot_sample import MOST_SHARDS
from stillroom.stages.ingest.class_names import classes_of
from stillroom.stages.run.build_cache import release
from stillroom.stages.run.stage import Advance
from stillroom.stages.teacher import pilot
from stillroom.stages.teacher.seeds import open_cache
from stillroom.stages.teacher.worker_cache import block_maker, loaded_teacher
from stillroom.storage.cache.cache import Cache
from stillroom.storage.cache.layout import TEACHERS, Layout
from stillroom.storage.cache.teacher_logits import TeacherInfo
from stillroom.storage.codecs.kinds import codec_kinds, kind_of, parse_codec
from stillroom.storage.codecs.registry import TransformModel
from stillroom.storage.dataset.dataset import Dataset
from stillroom.storage.dataset.index import ShardIndex
from stillroom.storage.ledger.ledger import Ledger, Record
from stillroom.storage.objects.base import Place
from stillroom.storage.writers.block import BlockWriter, write_block
from stillroom.storage.writers.loss_summary import FACTS
from stillroom.storage.writers.plain_view import PlainWriter
from stillroom.storage.writers.teacher import TeacherWriter

from .measurements import Probe, Timed, Tried

SECONDS = 20.0
"""Timed work at least, unless there is less to do."""
_PART_SECONDS = 10.0
"""Of a block that takes longer than this, a part of its samples is enough."""
_LEAST_PARTS = 2
_MOST_PARTS = 256
_WARM_SAMPLES = 64
_ROWS = 4096
"""Views that each codec is tried on, about."""


def probe(
    config: Config, section: Teacher, cache: Cache, data: Dataset, model: TransformModel, advance: Advance
) -> Probe:
    """Do some of a teacher's work.

    Args:
        config: of the run.
        section: the teacher.
        cache: with seeds; nothing in it changes.
        data: the training data.
        model: of the transform codec.
        advance: called with how many views are done.
    """
    with cache.place.scratch("estimate") as place:  # writing takes as long there as in the cache
        return _Prober(config, section, cache, data, model, advance, place).result()


class _Prober:
    def __init__(
        self,
        config: Config,
        section: Teacher,
        cache: Cache,
        data: Dataset,
        model: TransformModel,
        advance: Advance,
        place: Place,
    ) -> None:
        self.config, self.section, self.cache, self.data = config, section, cache, data
        self.model, self.advance, self.place = model, advance, place
        self.views = config.views.views_per_block
        self.classes = classes_of(config, data, section)

    def result(self) -> Probe:
        maker, startup, rate = self._warmed()
        places = self._spread()
        # A block in a real run is as long as its data shard; of a slow teacher's, some full batches are enough.
        batch = max(_WARM_SAMPLES, self.section.batch_size)
        most = max(1, int(rate * _PART_SECONDS / self.views / batch)) * batch
        sizes = [min(self.data.sizes[shard], most) for shard, _ in places]
        writer = self._writer("parts", self.config.cache.codec, sizes, self.config.cache.canaries)
        layouts = [writer.lay_out()]
        if self.config.cache.plain:
            layouts.append(PlainWriter(writer, self.config.data.eval_crop).lay_out())
        parts: list[Timed] = []
        records: list[Record] = []
        logits: list[npt.NDArray[np.float32]] = []
        for number, (shard, block) in enumerate(places):
            timed, answers, record = self._part(maker, writer, number, shard, block)
            parts.append(timed)
            records.append(record)
            if sum(map(len, logits)) < self._rows:
                logits.append(answers.reshape(-1, answers.shape[-1]))
            self.advance(timed.samples * timed.views)
            if len(parts) >= _LEAST_PARTS and sum(part.read + part.work for part in parts) >= SECONDS:
                break
        kept = [item.size for record in records for name, item in record.objects.items() if "/canaries/" in name]
        its_own = [writer.ledger.place.size(writer.ledger.name(record.task)) or 0 for record in records]
        # To keep more classes than there are is no codec to compare.
        tried = [(name, kind) for kind in codec_kinds().values() for name in kind.tried]
        most = len(self.classes)
        names = [name for name, kind in tried if not kind.whole or (parse_codec(name)[1] or 0) <= most]
        rows = np.concatenate(logits)[: self._rows]
        return Probe(
            codec=self.config.cache.codec,
            parts=tuple(parts),
            startup=startup,
            tried={name: self._tried(name, rows) for name in dict.fromkeys((*names, self.config.cache.codec))},
            metadata=sum(item.size for layout in layouts for item in layout.objects.values()),
            record=float(np.mean(its_own)),
            canary=float(np.mean(kept)) if kept else 0.0,
        )

    @property
    def _rows(self) -> int:
        """Rows to try codecs on: a few thousand, and some whole chunks, whose headers count."""
        return max(_ROWS, 2 * self.cache.layout.chunk_slots(len(self.classes)))

    def _warmed(self) -> tuple[BlockMaker, float, float]:
        """The maker, seconds that it took to be ready, and about how many views it makes a second."""
        release()
        index, every = self.data.index(0), self.cache.seeds(0)
        images = self.data.images(0, index, self.config.render.encoded)
        started = time.perf_counter()
        maker = block_maker(self.config, self.section, self.classes, self.cache.layout.slots)
        views = range(min(maker.renderer.views, self.views))
        self._warm(maker, index.first(2), images, every, views)
        startup = time.perf_counter() - started
        count = min(_WARM_SAMPLES, len(index))
        started = time.perf_counter()
        self._warm(maker, index.first(count), images, every, views)
        return maker, startup, count * len(views) / (time.perf_counter() - started)

    def _warm(
        self,
        maker: BlockMaker,
        index: ShardIndex,
        images: Sequence[npt.NDArray[np.uint8]],
        seeds: npt.NDArray[np.uint64],
        views: range,
    ) -> None:
        count = len(index)
        writer = self._writer(f"warm-{count}", self.config.cache.codec, (count,), 0, len(views))
        writer.lay_out()
        coming = BlockWriter(writer, 0, 0)
        made = maker.make(index, images[:count], seeds[:count], views, coming.put)
        self._finished(coming, made, {})

    def _spread(self) -> list[tuple[int, int]]:
        """Data shards and blocks to take parts of: a few data shards from all over, since each is read whole."""
        shards, blocks = len(self.data.sizes), max(1, self.config.views.count // self.views)
        few = np.unique(np.linspace(0, shards - 1, min(MOST_SHARDS, shards)).astype(int)).tolist()
        return [(shard, block) for block in range(blocks) for shard in few][:_MOST_PARTS]

    def _part(
        self, maker: BlockMaker, writer: TeacherWriter, number: int, shard: int, block: int
    ) -> tuple[Timed, npt.NDArray[np.float32], Record]:
        """A block of the scratch cache: a real block's views of the first samples of its data shard.

        Returns:
            What it took, its logits float32 [view, slot, class], and its record.
        """
        count = writer.layout.sizes[number]
        started = time.perf_counter()
        # What every task opens anew.
        data = Dataset(self.config.data_place)
        cache = open_cache(self.config, data, writing=True)
        index = data.index(shard)
        images, seeds = data.images(shard, index, self.config.render.encoded), cache.seeds(shard)
        read = time.perf_counter()
        keep = writer.canaries_of(number, 0)
        views = range(block * self.views, (block + 1) * self.views)
        coming = BlockWriter(writer, number, 0)
        logits = np.empty((len(views), count, len(self.classes)), np.float32)

        def take(place: int, slots: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]) -> None:
            coming.put(place, slots, rows)
            logits[place, slots] = rows

        made = maker.make(index.first(count), images[:count], seeds[:count], views, take, [(v, s) for _, v, s in keep])
        record = self._finished(coming, made, {n: made.kept[view, slot] for n, view, slot in keep})
        return Timed(count, self.views, read - started, time.perf_counter() - read), logits, record

    def _tried(self, name: str, rows: npt.NDArray[np.float32]) -> Tried:
        """A codec on some rows, cut into chunks like those of a real block, whose headers and means it shares."""
        slots = min(len(rows), self.cache.layout.slots)
        views = len(rows) // slots
        logits = rows[: views * slots].reshape(views, slots, -1)
        writer = self._writer(f"codec-{name.replace(':', '-')}", name, (slots,), 0, views)
        writer.lay_out()
        started = time.perf_counter()
        record = write_block(writer, 0, 0, logits, np.zeros((views, slots), np.uint16), {}, {})
        return Tried(record.facts[FACTS], views * slots / (time.perf_counter() - started))

    @staticmethod
    def _finished(coming: BlockWriter, made: Block, canaries: Mapping[int, npt.NDArray[np.uint8]]) -> Record:
        facts = {"views": made.digests.size, "seconds": 0.001}
        facts |= {"entropy": round(made.entropy, 6), "top1": round(made.top1 or 0.0, 6)}
        return coming.finish(made.digests, canaries, facts)

    def _writer(
        self, folder: str, codec: str, sizes: Sequence[int], canaries: int, views: int | None = None
    ) -> TeacherWriter:
        """A writer of a scratch cache whose data shards are the parts, with one block each."""
        views = views or self.views
        teacher = loaded_teacher(self.section, self.classes)
        model = self.model if kind_of(codec).fitted else None
        layout = Layout(tuple(sizes), views)
        info = TeacherInfo(
            teacher.fingerprint,
            len(self.classes),
            self.section.size,
            codec,
            tuple(0 for _ in range(canaries)),
            pilot.transform_of(self.config, model) if model is not None else {},
        )
        place = self.place.at(folder)
        for name in ("zarr.json", f"{TEACHERS}/zarr.json"):  # the cache's own groups
            place.write(name, self.cache.place.read(name))
        ledger = Ledger(place)
        temperatures = self.config.cache.temperatures
        return TeacherWriter(ledger, layout, self.section.name, info, self.cache.info.views, views, model, temperatures)
