"""A teacher that is ready to answer: a model, its weights and preprocessing, on a device, in a precision.

The same images get the same bits from run to run: no kernel is chosen by timing, and none that adds in any order. They
may get others in a batch of another size, but for a teacher of one shape, whose last batch is filled up.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.config.types import Precision
from stillroom.pipeline.config.weights_names import WHOLE, Pretrained, parse_weights
from stillroom.pipeline.device.cuda_graph import Graph
from stillroom.pipeline.device.device import own_device
from stillroom.pipeline.device.streams import to_device
from stillroom.storage.errors import ModelError
from stillroom.storage.ledger.fingerprint import stated

from .company import refuse_company
from .factory import Preprocessing, build_model, preprocessing_of
from .libraries import known_well
from .weights.load import Weights, load_weights, read_weights
from .weights.location import at_hand, refuse_missing
from .weights.pretrained import preprocessing as pretrained_preprocessing


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher in evaluation mode.

    Attributes:
        name: the teacher's.
        model: on `device`, in channels-last memory; or what a Python program gave in its place.
        preprocessing: the model's own.
        precision: "float32", or "bfloat16" by autocast.
        batch_size: images in one forward pass at most.
        device: where it runs.
        classes: how many logits it gives for each image.
        fingerprint: what its logits depend on besides the views.
        one_shape: whether each forward pass has exactly `batch_size` images; a last one is filled up.
        graph: the recorded forward pass of that shape; None where none is.
        note: what people should know of its weights, a line; empty where there is nothing to say.
    """

    name: str
    model: Callable[[torch.Tensor], Any]
    preprocessing: Preprocessing
    precision: Precision
    batch_size: int
    device: torch.device
    classes: int
    fingerprint: dict[str, Any]
    one_shape: bool = False
    graph: Callable[[torch.Tensor], torch.Tensor] | None = None
    note: str = ""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits for float32 [n, 3, size, size] in [0, 1]: float32 [n, class], on the CPU.

        Raises:
            ModelError: the model answers with something else.
        """
        return self.ask(images).cpu()

    @torch.inference_mode()
    def ask(self, images: torch.Tensor) -> torch.Tensor:
        """The same on the teacher's device. On a GPU the work is queued, and nothing waits for it.

        Raises:
            ModelError: the model answers with something else.
        """
        with _same_kernels(self.precision):
            return torch.cat([self._forward(part) for part in torch.split(images, self.batch_size)]).float()

    def forward(self, images: torch.Tensor) -> Any:
        """One pass of the model over images on its device, in its precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.model(self.preprocessing(images).contiguous(memory_format=torch.channels_last))

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        images = to_device(images, self.device)
        count, missing = len(images), self.batch_size - len(images) if self.one_shape else 0
        if missing:
            images = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)])
        try:
            logits = (self.graph or self.forward)(images)
        except AssertionError as error:  # how models of timm and torchvision refuse images of another size
            raise ModelError(
                f"teacher {self.name!r} does not take images of {images.shape[-1]} pixels: {error}; set size in its "
                "[[teacher]] table"
            ) from error
        wanted = [len(images), self.classes]
        if not (isinstance(logits, torch.Tensor) and logits.is_floating_point() and list(logits.shape) == wanted):
            raise ModelError(
                f"teacher {self.name!r} answers with {_kind(logits)}, where floating-point logits {wanted} are needed"
            )
        return logits[:count]


@contextmanager
def _same_kernels(precision: Precision) -> Iterator[None]:
    """Within it, cuDNN takes the same kernels from run to run, and float32 means float32.

    Outside it they are as they were: students of the same process are trained as they are in one of their own.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    try:
        cudnn.benchmark = False  # chooses by timing
        cudnn.deterministic = True  # none that adds in any order
        cudnn.allow_tf32 = before[2] and precision != "float32"  # torch's default calls 10-bit mantissas float32
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before


def first_not_finite(logits: torch.Tensor) -> int | None:
    """The first row of [n, class] that holds a NaN or an infinity."""
    wrong = (~torch.isfinite(logits).all(dim=1)).nonzero()
    return int(wrong[0]) if len(wrong) else None


def _kind(answer: object) -> str:
    if isinstance(answer, torch.Tensor):
        return f"{str(answer.dtype).removeprefix('torch.')} {list(answer.shape)}"
    return f"a {type(answer).__name__}"


def load_teacher(section: Teacher, classes: tuple[str, ...]) -> LoadedTeacher:
    """Build a teacher and load its weights. Fetches nothing: see `weights.location.fetch`.

    Args:
        section: of the config.
        classes: names of the classes that it tells apart: the data set's, or its own.

    Raises:
        ModelError: the weights are not there, do not fit the model, or are for other classes; or the precision needs
            another device.
    """
    device = own_device()
    if section.precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ModelError(f'teacher {section.name!r}: this GPU has no bfloat16; use precision = "float32"')
    if section.graph and device.type != "cuda":
        raise ModelError(f"teacher {section.name!r} has graph = true, which needs an NVIDIA GPU, and there is none")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    weights = _weights_of(section)
    _refuse_other_classes(section, weights, classes)
    model = build_model(section.model, len(classes))
    note = load_weights(model, section.model, weights)
    if weights.pretrained and hasattr(model, "transform_input"):
        # torchvision's Inception and GoogLeNet, as it builds them where it loads its own weights.
        setattr(model, "transform_input", True)  # noqa: B010
    preprocessing = preprocessing_of(model, weights, section.mean, section.std)
    model = model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if section.compile:
        model.compile(dynamic=False)
    teacher = LoadedTeacher(
        section.name,
        model,
        preprocessing,
        section.precision,
        section.batch_size,
        device,
        len(classes),
        teacher_fingerprint(section, weights, preprocessing),
        one_shape=section.compile or section.graph,
        note=note or "",
    )
    if not known_well(section.model):
        refuse_company(teacher, section.size)
    if section.compile or section.graph:
        # Now, before DALI works on the device as well: see `cuda_graph`. What answers with no logits is refused here.
        example = torch.zeros(section.batch_size, section.size, section.size, 3, device=device).permute(0, 3, 1, 2)
        teacher.ask(example)
        if section.graph:
            with torch.inference_mode(), _same_kernels(section.precision):
                teacher = replace(teacher, graph=Graph(teacher.forward, example))
    return teacher


def _weights_of(section: Teacher) -> Weights:
    """Weights that are at hand, with what torchvision states beside its own."""
    named = parse_weights(section.model, section.weights)
    refuse_missing(section)
    path = at_hand(section)
    if path is None:
        raise ModelError(
            f"weights {section.weights} of teacher {section.name!r} are not fetched yet; run `stillroom teacher` first"
        )
    weights = read_weights(path, section.checkpoint_key, pretrained=isinstance(named, Pretrained))
    stated = pretrained_preprocessing(named) if isinstance(named, Pretrained) else None
    if stated is None:
        return weights
    mean, std = stated
    return replace(weights, metadata={**weights.metadata, "mean": json.dumps(mean), "std": json.dumps(std)})


def teacher_fingerprint(section: Teacher, weights: Weights, preprocessing: Preprocessing) -> dict[str, Any]:
    """Architecture, weights, preprocessing, precision, and what else may change a rounding."""
    fields = {
        "model": section.model,
        "weights": weights.sha256,
        "size": section.size,
        "precision": section.precision,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "compile": section.compile,
        "graph": section.graph,
        "checkpoint_key": None if weights.key in WHOLE else weights.key,
    }
    return stated(fields, section.LATER)


def _refuse_other_classes(section: Teacher, weights: Weights, classes: tuple[str, ...]) -> None:
    trained_on = weights.classes
    own = isinstance(section.classes, int) and trained_on is not None and len(trained_on) == section.classes
    if trained_on is not None and trained_on != classes and not own:
        whose = "the data set" if section.classes is None else "its [[teacher]] table"
        raise ModelError(
            f"teacher {section.name!r} was trained on {len(trained_on)} classes ({_some(trained_on)}), {whose} "
            f"has {len(classes)} ({_some(classes)}); give weights that were trained on these classes, or set "
            f"classes = {len(trained_on)} in [[teacher]], where they are to be the teacher's own"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
