"""One student's training steps: images in, loss down. Knows nothing of files, epochs or where targets come from."""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stillroom.pipeline.config.sections import Student
from stillroom.pipeline.device.distributed import Ranks
from stillroom.pipeline.device.streams import Arrival, Streams, streams_of
from stillroom.pipeline.models.factory import Preprocessing
from stillroom.pipeline.models.losses import kl_divergence, mixed_cross_entropy
from stillroom.pipeline.replay.batch import Batch
from stillroom.storage.errors import ConfigError, ModelError

from .optimizers import build_optimizer, default_warmup, on_this_device, rate_at, schedule_of
from .step import Step
from .undo import Buffers

Target = Callable[[Batch, torch.Tensor], torch.Tensor]
"""From a batch and the student's logits, float32 [n, class] on its device, to losses: float32 [n]."""


@dataclass
class Trainer:
    """A student and its optimiser.

    On a GPU, with AdamW and without averaged weights, no step waits for the device. Whether loss and gradient are
    finite stays there, where the update is left out if they are not: that of this step and of those after it. The host
    looks when it has queued the next step, and raises then, with all as it was when the step failed.

    Args:
        model: on its device.
        preprocessing: its own.
        settings: of the config.
        steps: optimiser steps in all.
        target: what it learns from.
        ranks: the processes that train it together; each has its share of every global batch.
    """

    model: nn.Module
    preprocessing: Preprocessing
    settings: Student
    steps: int
    target: Target
    ranks: Ranks = field(default_factory=Ranks)
    step: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)
    warmup: int = field(init=False)
    streams: Streams = field(init=False)

    def __post_init__(self) -> None:
        self.device = next(self.model.parameters()).device
        self.streams = streams_of(self.device)
        self.optimizer = build_optimizer(self.model, self.settings, fused=self.streams.beside)
        self._schedule = schedule_of(self.settings)
        if self.settings.compile:
            self.model.compile()  # in place: the state's names stay
        self._parallel: nn.Module = self.model
        if self.ranks.world > 1:
            self._parallel = DistributedDataParallel(
                self.model, device_ids=[self.device] if self.device.type == "cuda" else None
            )
        self.average = _average(self.model, self.settings.ema)
        self._waits = not (self.streams.beside and self.settings.optimizer == "adamw" and self.average is None)
        self._finite = torch.ones((), dtype=torch.bool, device=self.device)
        self._buffers = Buffers(self.model)
        self._unsettled: Step | None = None
        stated = self.settings.warmup_steps
        self.warmup = default_warmup(self.steps) if stated is None else stated
        if stated is not None and stated >= self.steps:
            raise ConfigError(
                f"student {self.settings.name!r} has warmup_steps = {stated} and takes {self.steps} steps in all; the "
                "learning rate would never reach its value, so shorten the warm-up"
            )
        wanted = self.settings.precision
        self._bfloat16 = wanted == "bfloat16" or (
            wanted == "auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        )

    def train(self, batch: Batch) -> Step:
        """One optimiser step on one global batch.

        Args:
            batch: this rank's share of it, cut into `accumulate` pieces whose gradients are added up.

        Raises:
            ModelError: the loss or the gradient is not finite; of the step before where that was not known yet.
        """
        self.model.train()
        # Dropout and its like depend on student, step and rank alone, so a resumed run draws what it would have drawn.
        torch.manual_seed(_seed(self.settings.seed, self.step, self.ranks.rank))
        rate = self.settings.learning_rate * rate_at(self.step, self.steps, self.warmup, self._schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if not self._waits:
            self._buffers.keep()
        parts = self.ranks.all_reduce(torch.stack([self._backward(batch), self._number(batch.proved)]))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        figures = torch.cat([parts, norm.double()[None]])
        if self._waits:
            step = Step(self.step, rate, Arrival(figures.cpu()))
            if not step.finite:
                raise self._diverged(step)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.step += 1
            return step
        self._finite &= torch.isfinite(figures).all()
        self.optimizer.found_inf = (~self._finite).float()  # type: ignore[attr-defined]  # fused: no update where it is 1
        self.optimizer.step()
        before, self._unsettled = self._unsettled, Step(self.step, rate, self.streams.fetch(figures))
        self.step += 1
        if before is not None and not before.finite:
            self._buffers.restore()  # the step after it changed nothing else
            raise self._diverged(before)
        return self._unsettled

    def settle(self) -> None:
        """Wait until it is known that the last step was taken.

        Raises:
            ModelError: it was not, as its loss or gradient is not finite.
        """
        last, self._unsettled = self._unsettled, None
        if last is not None and not last.finite:
            raise self._diverged(last)

    def _diverged(self, step: Step) -> ModelError:
        """What to raise, standing where the step failed."""
        self._finite.fill_(True)
        self._unsettled, self.step = None, step.number
        return ModelError(
            f"student {self.settings.name!r} diverged at step {step.number}: loss {step.loss:.4g}, "
            f"gradient {step.gradient:.4g}; use a lower learning_rate or a longer warm-up"
        )

    def _number(self, value: float) -> torch.Tensor:
        """float64 []; filled in on the device, where copying it there would wait for what is queued."""
        return torch.full((), value, dtype=torch.float64, device=self.device)

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Add this rank's part of the gradient of the global batch's mean loss; its part of that loss, in nats:
        float64 [].
        """
        # DDP takes the mean over ranks, whose shares differ in size.
        scale = self.ranks.world / self.settings.batch_size
        pieces = batch.pieces(self.settings.accumulate)
        total = self._number(0.0)
        for number, piece in enumerate(pieces):
            later = number < len(pieces) - 1 and isinstance(self._parallel, DistributedDataParallel)
            with self._parallel.no_sync() if later else nullcontext():  # type: ignore[operator]
                loss = self.target(piece, self._forward(piece.images, self._parallel)).sum() * scale
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach().double() / self.ranks.world
        return total

    @torch.inference_mode()
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the trained model in evaluation mode: float32 [n, class]."""
        self.trained.eval()
        return self._forward(images, self.trained)

    @property
    def trained(self) -> nn.Module:
        """What training yields: the averaged weights where there are any."""
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on exactly: tensors and plain numbers.

        Raises:
            ModelError: the last step turns out to have failed.
        """
        self.settle()
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.settle()
        self.step = int(state["step"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(on_this_device(self.optimizer, state["optimizer"]))

    def _forward(self, images: torch.Tensor, model: nn.Module | None = None) -> torch.Tensor:
        images = self.preprocessing(images.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
            logits: torch.Tensor = (model or self.model)(images.contiguous(memory_format=torch.channels_last))
        return logits.float()


def _seed(student: int, step: int, rank: int) -> int:
    """63 bits for torch's generator."""
    return int.from_bytes(hashlib.sha256(f"{student}/{step}/{rank}".encode()).digest()[:8], "big") >> 1


def _average(model: nn.Module, decay: float) -> AveragedModel | None:
    """Exponential moving average of weights and of norms' statistics."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]


def with_labels(target: Target, weight: float) -> Target:
    """A target with a share of cross entropy against the labels."""

    def both(batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        return (1.0 - weight) * target(batch, logits) + weight * from_labels(batch, logits)

    return both if weight else target


def from_cache(temperature: float) -> Target:
    """Learn from the logits that came with the views."""

    def target(batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        assert batch.logits is not None
        return kl_divergence(batch.logits.to(logits.device), logits, temperature)

    return target


def from_teacher(teacher: Callable[[torch.Tensor], torch.Tensor], temperature: float) -> Target:
    """Learn from a teacher in the loop, which sees the same views, at its own size."""

    def target(batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        images = batch.images if batch.other_images is None else batch.other_images
        return kl_divergence(teacher(images).to(logits.device), logits, temperature)

    return target


def from_labels(batch: Batch, logits: torch.Tensor) -> torch.Tensor:
    """Learn from the labels, mixed as the images are."""
    device = logits.device
    return mixed_cross_entropy(
        logits, batch.labels.to(device), batch.partner_labels.to(device), batch.shares.to(device)
    )
