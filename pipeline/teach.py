"""A teacher that is ready to answer: a model, its weights and preprocessing, on a device, in a precision."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..storage.errors import ModelError
from .models import Preprocessing, Weights, build_model, load_weights, preprocessing_of, read_weights
from .settings import Teacher
from .settingtypes import Precision


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher in evaluation mode.

    Attributes:
        name: the teacher's.
        model: on `device`, in channels-last memory.
        preprocessing: the model's own.
        precision: "float32", or "bfloat16" by autocast.
        batch_size: images in one forward pass at most.
        device: where it runs.
        classes: how many logits it gives for each image.
        fingerprint: what its logits depend on besides the views.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    precision: Precision
    batch_size: int
    device: torch.device
    classes: int
    fingerprint: dict[str, Any]

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits for float32 [n, 3, size, size] in [0, 1]: float32 [n, class], on the CPU.

        Raises:
            ModelError: the model answers with something else.
        """
        return torch.cat([self._forward(part) for part in torch.split(images, self.batch_size)]).float().cpu()

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits: Any = self.model(self.preprocessing(images).contiguous(memory_format=torch.channels_last))
        wanted = [len(images), self.classes]
        if not (isinstance(logits, torch.Tensor) and logits.is_floating_point() and list(logits.shape) == wanted):
            raise ModelError(
                f"teacher {self.name!r} answers with {_kind(logits)}, where floating-point logits {wanted} are needed"
            )
        return logits


def first_not_finite(logits: torch.Tensor) -> int | None:
    """The first row of [n, class] that holds a NaN or an infinity."""
    wrong = (~torch.isfinite(logits).all(dim=1)).nonzero()
    return int(wrong[0]) if len(wrong) else None


def _kind(answer: object) -> str:
    if isinstance(answer, torch.Tensor):
        return f"{str(answer.dtype).removeprefix('torch.')} {list(answer.shape)}"
    return f"a {type(answer).__name__}"


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_teacher(section: Teacher, classes: tuple[str, ...]) -> LoadedTeacher:
    """Build a teacher and load its weights.

    Args:
        section: of the config.
        classes: names of the data set's classes.

    Raises:
        ModelError: the weights are not there, do not fit the model, or are for other classes; or the precision needs
            another device.
    """
    device = default_device()
    if section.precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ModelError(f'teacher {section.name!r}: this GPU has no bfloat16; use precision = "float32"')
    if section.precision == "float32" and device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # torch's default calls 10-bit mantissas float32
    weights = read_weights(section.weights)
    _refuse_other_classes(section, weights, classes)
    model = build_model(section.model, len(classes))
    load_weights(model, section.model, weights)
    preprocessing = preprocessing_of(model, weights, section.mean, section.std)
    model = model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedTeacher(
        section.name,
        model,
        preprocessing,
        section.precision,
        section.batch_size,
        device,
        len(classes),
        teacher_fingerprint(section, weights, preprocessing),
    )


def teacher_fingerprint(section: Teacher, weights: Weights, preprocessing: Preprocessing) -> dict[str, Any]:
    """Architecture, weights, preprocessing and precision."""
    return {
        "model": section.model,
        "weights": weights.sha256,
        "size": section.size,
        "precision": section.precision,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def _refuse_other_classes(section: Teacher, weights: Weights, classes: tuple[str, ...]) -> None:
    trained_on = weights.classes
    if trained_on is not None and trained_on != classes:
        raise ModelError(
            f"teacher {section.name!r} was trained on {len(trained_on)} classes ({_some(trained_on)}), the data set "
            f"has {len(classes)} ({_some(classes)}); give weights that were trained on these classes"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
