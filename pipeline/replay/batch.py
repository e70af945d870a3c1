"""What a student is given for one step: images, the logits that go with them, labels, and who is who."""

import itertools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stillroom.pipeline.device.streams import to_device


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch: n samples.

    Attributes:
        images: float32 [n, 3, size, size] in [0, 1], mixed, in channels-last memory.
        logits: float32 [n, class], the teacher's; None where no teacher was asked for.
        labels: int64 [n], of each sample.
        partner_labels: int64 [n], of whom it is mixed with (itself where alone).
        shares: float32 [n], λ: the sample's own part of its image.
        uids: uint64 [n].
        views: int64 [n], number of the view that the images are of.
        sources: int64 [n], number of the view that the logits are of: the same, but for designs other than consistent;
            −1 for the plain one.
        other_images: the same images at `also_size`, float32 [n, 3, also_size, also_size]; None unless asked for.
        proved: how many rendered views were compared with the teacher's digests.
    """

    images: torch.Tensor
    logits: torch.Tensor | None
    labels: torch.Tensor
    partner_labels: torch.Tensor
    shares: torch.Tensor
    uids: npt.NDArray[np.uint64]
    views: torch.Tensor
    sources: torch.Tensor
    other_images: torch.Tensor | None
    proved: int

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same with its tensors on a device. Lightning's Trainer, and others that move batches, call it.

        Args:
            device: where to.
            non_blocking: in the order of the current stream, without waiting for it: by way of pinned memory.
        """
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, torch.Tensor):
                moved[item.name] = to_device(value, torch.device(device)) if non_blocking else value.to(device)
        return replace(self, **moved)

    def tensors(self) -> list[torch.Tensor]:
        """All of its tensors."""
        return [value for item in fields(self) if isinstance(value := getattr(self, item.name), torch.Tensor)]

    def pieces(self, count: int) -> "list[Batch]":
        """The same samples in at most `count` batches of nearly equal size."""
        cuts = np.linspace(0, len(self), min(count, len(self)) + 1).astype(int)
        return [self._slice(slice(start, stop)) for start, stop in itertools.pairwise(cuts)]

    def _slice(self, rows: slice) -> "Batch":
        columns: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        kept = {name: value for name, value in columns.items() if value is None or name == "proved"}
        return Batch(**kept, **{name: columns[name][rows] for name in columns.keys() - kept.keys()})
