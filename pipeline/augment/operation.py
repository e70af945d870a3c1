"""What an operation is: ranges as data, a draw of parameters from seeds, and what the picture's graph does with them.

An operation never sees a pixel. Its class is the whole of it: whoever defines one in a module of `operations`, or in
an installed package, adds nothing anywhere else.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from stillroom.pipeline.rng.philox import Words
from stillroom.pipeline.rng.seeds import draw

FOREIGN = 1 << 31
"""Numbers from here on belong to packages' operations, which take them from their name."""


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


class Operation(BaseModel, ABC):
    """An augmentation: its fields are its ranges.

    Attributes:
        op: its name in recipes and configs; unique.
        number: the operation number of its draws, part of every counter. Append-only: it never changes, and no two
            operations share one. Without one, it is taken from the name, as packages' operations should have it.
        version: raised when the same parameters come to mean other pixels.
        dtype, dims: of a sample's drawn parameters: a number (0) or a vector (1) of "int32" or "float32".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: ClassVar[str]
    number: ClassVar[int]
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "float32"
    dims: ClassVar[int] = 0

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "number" not in cls.__dict__ and "op" in cls.__dict__:
            word = int.from_bytes(hashlib.sha256(cls.op.encode()).digest()[:4], "big")
            cls.number = FOREIGN | word

    @property
    def acts(self) -> bool:
        """Whether it ever changes a view with these ranges; where it does not, it is left out of the graph."""
        return True

    @abstractmethod
    def draw(self, draws: Draws, heights: npt.NDArray[np.int32], widths: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        """Parameters of a view of each sample, a pure function of its seed and size.

        Args:
            draws: of this operation.
            heights, widths: int32 [n], pixels of the upright images.

        Returns:
            `dtype` [n], or [n, k] where `dims` is 1.
        """

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

    def to_data(self) -> dict[str, Any]:
        """As plain data, for recipes."""
        return {"op": self.op, "version": self.version, **self.model_dump(mode="json")}
