"""What an operation is: ranges as data, a draw of parameters from seeds, and what is done to the picture with them.

Its class is the whole of it: whoever defines one in a module of `operations`, or in an installed package, adds nothing
anywhere else. A `DaliOperation` adds to the renderer's DALI graph. A `PixelOperation` draws steps for the compiled
integer kernels in `pixels`, which are the same bits on every device.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from stillroom.pipeline.rng.philox import Words, unit
from stillroom.pipeline.rng.seeds import draw

from .steps import Steps, texts

FOREIGN = 1 << 31
"""Numbers from here on belong to packages' operations, which take them from their name."""
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Level = Annotated[int, Field(ge=0, le=255)]


@dataclass(frozen=True)
class Draws:
    """Random words of one operation for a view of each of n samples.

    Attributes:
        seeds: uint64 [n], of the samples.
        view: the view's number.
        number: the operation's.
    """

    seeds: npt.NDArray[np.uint64]
    view: int
    number: int

    def __len__(self) -> int:
        return len(self.seeds)

    def words(
        self, draw_number: int = 0, rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[Words, Words, Words, Words]:
        """Four uint32 [n] for each draw number; of some samples only where `rows` says which."""
        seeds = self.seeds if rows is None else self.seeds[rows]
        return draw(seeds, self.number, self.view, draw_number)

    def units(
        self, draw_number: int = 0, rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.float64], ...]:
        """The same as four float64 [n] in [0, 1)."""
        return tuple(unit(words) for words in self.words(draw_number, rows))


class Named(BaseModel, ABC):
    """What a recipe names: an operation on views, or one that mixes pairs of them. Its fields are its ranges.

    Attributes:
        op: its name in recipes and configs; unique.
        number: the operation number of its draws, part of every counter. Append-only: it never changes, and no two
            share one. Without one, it is taken from the name, as packages' operations should have it.
        version: raised when the same ranges come to mean other pixels.
        source: where it comes from, for the documentation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: ClassVar[str]
    number: ClassVar[int]
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "number" not in cls.__dict__ and "op" in cls.__dict__:
            word = int.from_bytes(hashlib.sha256(cls.op.encode()).digest()[:4], "big")
            cls.number = FOREIGN | word

    def to_data(self) -> dict[str, Any]:
        """As plain data, for recipes."""
        return {"op": self.op, "version": self.version, **self.model_dump(mode="json")}


class Operation(Named):
    """An augmentation of single views."""

    @property
    def acts(self) -> bool:
        """Whether it ever changes a view with these ranges; where it does not, it is left out."""
        return True

    @abstractmethod
    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        """Parameters of a view of each sample, a pure function of its seed and size.

        Args:
            draws: of this operation.
            heights, widths: int32 [n], pixels of the upright images.

        Returns:
            [n, …].
        """

    def told(self, drawn: Any) -> str:
        """What was done to a view, in a few words, from what was drawn for it; empty where nothing was."""
        return f"{self.op} {np.round(drawn, 2).tolist()}"


class DaliOperation(Operation):
    """One that DALI applies, within the renderer's graph.

    Attributes:
        dtype, dims: of a sample's drawn parameters: a number (0) or a vector (1) of "int32" or "float32".
    """

    dtype: ClassVar[str] = "float32"
    dims: ClassVar[int] = 0

    def as_steps(self, drawn: npt.NDArray[Any]) -> Steps | None:  # noqa: ARG002
        """The same as steps, int32 [n, k, 8], for a renderer without DALI's operators; None where there are none."""
        return None

    @abstractmethod
    def apply(self, image: Any, parameters: Any, fn: Any) -> Any:
        """Act on a view in the renderer's graph, after it was cut out and resized.

        Args:
            image: the DALI node of a uint8 view, on the CPU or the GPU.
            parameters: the DALI node of what was drawn for it, on the CPU.
            fn: `nvidia.dali.fn`. DALI's own random operators must not be used.

        Returns:
            The DALI node of the view afterwards: uint8, of the same size.
        """


class PixelOperation(Operation):
    """One whose draw is a list of steps, which `pixels` carries out after the graph."""

    p: Probability = Field(1.0, description="probability that it acts on a view")

    @abstractmethod
    def steps(self, draws: Draws) -> Steps:
        """What it does to each view where it acts: int32 [n, k, 8].

        Args:
            draws: of this operation; the last word of draw 0 is taken, by `p`.
        """

    @property
    def acts(self) -> bool:
        return self.p > 0.0

    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> Steps:  # noqa: ARG002
        """The steps, or none with probability 1 − p: int32 [n, k, 8]."""
        steps = self.steps(draws)
        if self.p < 1.0:
            steps[draws.units()[3] >= self.p] = 0
        return steps

    def told(self, drawn: Any) -> str:
        return ", ".join(texts(drawn))
