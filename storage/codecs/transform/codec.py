"""Transform coding of logits: a few quantised, entropy-coded principal coefficients per row, never silently worse.

Every chunk is decoded again as it is encoded. Where its mean KL misses the bound at any of the model's temperatures it
gets a finer step; rows that no step helps (unlike anything in the pilot) are stored exactly. Decoded rows are centred:
a constant added to all logits of a row changes no softmax and is not kept, but for rows stored exactly.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stillroom.storage.codecs.rows.base import RowCodec, Rows
from stillroom.storage.codecs.rows.fast_divergence import fast_divergence
from stillroom.storage.codecs.rows.frame import Reader, pack_mask, unpack, unpack_mask, varint
from stillroom.storage.errors import ConfigError, DamagedObjectError

from . import rans
from .contexts import MAX_REFINE, REFINE_PER_OCTAVE
from .model import TransformModel, model_from_text
from .quantizer import Engine, Symbols, engine


@dataclass(frozen=True)
class ChunkPlan:
    """How a chunk came to be stored.

    Attributes:
        refine: 64ths of an octave by which the step is finer than the model's.
        exact: bool [rows], rows stored exactly.
        symbols: of the other rows, in order.
        kl: float64 [temperatures, rows], what each row lost; 0 for exact ones.
    """

    refine: int
    exact: NDArray[np.bool_]
    symbols: Symbols
    kl: NDArray[np.float64]


@dataclass(frozen=True)
class ChunkReport:
    """What a chunk's bytes say about how it was stored.

    Attributes:
        rows: slots in the chunk.
        used: slots that hold logits.
        refine: 64ths of an octave by which the step is finer than the model's; above 0 the chunk was unlike the
            pilot.
        exact: rows stored exactly.
        size: bytes.
    """

    rows: int
    used: int
    refine: int
    exact: int
    size: int


@dataclass(frozen=True, eq=False)
class TransformCodec(RowCodec):
    """The Zarr codec of a `TransformModel`, which its configuration embeds.

    Attributes:
        model: the fitted model.
    """

    model: TransformModel
    kind: ClassVar[int] = 4
    codec_name: ClassVar[str] = "stillroom.transform"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransformCodec) and other.model.digest == self.model.digest

    def __hash__(self) -> int:
        return hash(self.model.digest)

    @cached_property
    def _configuration(self) -> dict[str, Any]:
        return {"digest": self.model.digest, "model": self.model.to_text()}

    def configuration(self) -> dict[str, Any]:
        """The model's digest, and the model."""
        return self._configuration

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec that zarr.json describes.

        Raises:
            DamagedObjectError: the model is not the one that its digest names.
        """
        configuration = data.get("configuration", {})
        try:
            return cls(model_from_text(configuration["model"], configuration["digest"]))
        except KeyError as error:
            raise DamagedObjectError(
                f"stillroom.transform in zarr.json has no {error}; restore the metadata"
            ) from error

    def encode_body(self, rows: Rows) -> bytes:
        """See `RowCodec.encode_body`."""
        if rows.shape[1] != self.model.classes:
            raise ConfigError(
                f"this transform was fitted on {self.model.classes} classes, the logits have {rows.shape[1]}; "
                "fit a pilot of this teacher"
            )
        plan = plan_chunk(engine(self.model), rows)
        words = rans.encode(plan.symbols.symbols, plan.symbols.odd, plan.symbols.classes, engine(self.model).tables)
        coded = words.astype("<u4").tobytes()
        return varint(plan.refine) + pack_mask(~plan.exact) + varint(len(coded)) + coded + _pack_exact(rows[plan.exact])

    def decode_body(self, body: bytes, rows: int, classes: int) -> Rows:
        """See `RowCodec.decode_body`."""
        if classes != self.model.classes:
            raise DamagedObjectError(f"a transform of {self.model.classes} classes cannot decode {classes}")
        reader = Reader(body)
        refine = reader.varint()
        coded = unpack_mask(reader, rows)
        size = reader.varint()
        if refine > MAX_REFINE or size % 4:
            raise DamagedObjectError(f"a transform chunk has refinement {refine} and {size} bytes of symbols")
        words = np.frombuffer(reader.take(size), "<u4").astype(np.uint32)
        count = int(coded.sum())
        exact = _unpack_exact(reader.rest(), rows - count, classes)
        decoded = engine(self.model).decode(words, count, refine)
        if count == rows:
            return decoded
        out = np.empty((rows, classes), np.float32)
        out[coded] = decoded
        out[~coded] = exact
        return out

    def inspect(self, data: bytes, rows: int) -> ChunkReport:
        """How the chunk in these bytes was stored, without decoding its symbols.

        Raises:
            DamagedObjectError: the bytes are damaged.
        """
        parts = unpack(data, self.kind, rows, self.model.classes)
        used = int(parts.used.sum())
        reader = Reader(parts.body)
        refine = reader.varint()
        return ChunkReport(rows, used, refine, used - int(unpack_mask(reader, used).sum()), len(data))


def plan_chunk(tools: Engine, rows: Rows) -> ChunkPlan:
    """Decides step and exact rows so that the chunk's mean KL stays within the model's bound at each temperature."""
    model = tools.model
    coefficients, codable = tools.coefficients(rows)
    budget = model.max_kl * max(len(rows), 1)

    def measure(values: NDArray[np.float32], of: NDArray[np.bool_]) -> NDArray[np.float64]:
        kl = np.zeros((len(model.temperatures), len(rows)))
        if of.any():
            kl[:, of] = fast_divergence(rows[of], values, tools.rebuild, model.temperatures)
        return kl

    refine = 0
    looked = False
    while True:
        found = tools.quantise(coefficients[codable], refine)
        if not found.fits.all():
            codable[np.flatnonzero(codable)[~found.fits]] = False
            found = _pick(found, found.fits)
        values = tools.values(found, refine)
        kl = measure(values, codable)
        bad = kl.max(axis=0, initial=0) > model.row_kl
        if bad.any() and refine == 0:
            found = _pick(found, ~bad[codable])
            codable &= ~bad
            kl[:, bad] = 0
        excess = float(kl.sum(axis=1).max(initial=0)) / budget
        if excess <= 1:
            return ChunkPlan(refine, ~codable, found, kl)
        if not looked:
            # What the axes cannot hold, no step can mend: those rows go exactly.
            looked = True
            floor = measure(coefficients[codable].astype(np.float32), codable)
            codable &= ~_worst(floor, 0.5 * budget)
        elif refine >= MAX_REFINE:
            kept = ~_worst(kl, budget)[codable]
            found = _pick(found, kept)
            codable[np.flatnonzero(codable)[~kept]] = False
            kl[:, ~codable] = 0
            return ChunkPlan(refine, ~codable, found, kl)
        # KL goes with the square of the step; a little more, so that the next try holds.
        refine = min(MAX_REFINE, refine + 1 + int(REFINE_PER_OCTAVE * 0.5 * np.log2(max(excess, 1))))


def _worst(kl: NDArray[np.float64], budget: float) -> NDArray[np.bool_]:
    """The fewest rows, worst first, without which every temperature's sum is within the budget: bool [rows]."""
    order = np.argsort(-kl.max(axis=0), kind="stable")
    left = kl.sum(axis=1, keepdims=True) - np.cumsum(kl[:, order], axis=1)
    enough = (left <= budget).all(axis=0)
    out = np.zeros(kl.shape[1], bool)
    if (kl.sum(axis=1) > budget).any():
        out[order[: int(enough.argmax()) + 1 if enough.any() else None]] = True
    return out


def _pick(found: Symbols, kept: NDArray[np.bool_]) -> Symbols:
    return Symbols(found.symbols[kept], found.odd[kept], found.classes[kept], found.fits[kept])


def _pack_exact(rows: Rows) -> bytes:
    """Rows as they are: float16 where that loses nothing, else float32."""
    with np.errstate(over="ignore"):
        half = rows.astype(np.float16)
    if np.array_equal(half.astype(np.float32), rows):
        return half.astype("<f2").tobytes()
    return rows.astype("<f4").tobytes()


def _unpack_exact(data: bytes, rows: int, classes: int) -> Rows:
    if len(data) == rows * classes * 2:
        return np.frombuffer(data, "<f2").reshape(rows, classes).astype(np.float32)
    if len(data) == rows * classes * 4:
        return np.frombuffer(data, "<f4").reshape(rows, classes).astype(np.float32)
    raise DamagedObjectError(f"a transform chunk holds {len(data)} bytes for {rows} exact rows of {classes} classes")
