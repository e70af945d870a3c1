"""The renderer: from encoded images and drawn parameters to pixels, by one DALI graph for teacher and student.

decode whole → for each view: slice → resize → the operations of the recipe: first those that DALI applies, then, by
`pixels`, those that are steps. With `integer-cpu` the graph ends with the slice, and `pixels` does the rest. Parameters
come in as per-sample CPU arguments; DALI's own random operators are not used. Knows nothing of seeds or labels.
"""

import sys
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import nvidia.dali.fn as fn
import nvidia.dali.types as types
import torch
from nvidia.dali import Pipeline

from stillroom.pipeline.augment.operation import DaliOperation, Operation, PixelOperation
from stillroom.pipeline.augment.operations.geometry.crop import Crop
from stillroom.pipeline.augment.recipe import Views
from stillroom.pipeline.augment.steps import Steps
from stillroom.pipeline.device.device import own_device
from stillroom.pipeline.images.decoder_options import DECODING
from stillroom.pipeline.pixels.painter import Painter
from stillroom.storage.errors import ConfigError, DataError, StillroomError
from stillroom.storage.xxh3 import xxh3_of_parts

from .backend import Backend
from .failing_image import culprit
from .feeding import Lent, rows, samples
from .request import Request

_AHEAD = 2
_TYPES = {"int32": types.INT32, "float32": types.FLOAT}


def digests(pixels: torch.Tensor) -> npt.NDArray[np.uint16]:
    """Digest of each view: the low 16 bits of xxh3-64 of its bytes.

    Args:
        pixels: uint8 [n, height, width, 3], contiguous.

    Returns:
        uint16 [n].
    """
    flat = pixels.cpu().contiguous().view(-1).numpy()
    size = len(flat) // max(1, len(pixels))
    starts = np.arange(len(pixels)) * size
    return xxh3_of_parts(flat, starts, np.full(len(pixels), size)).astype(np.uint16)


class Renderer:
    """Renders batches of up to `batch` images.

    Args:
        sizes: height and width in pixels of the views, one or more; each view comes out at each size.
        batch: images in a batch at most.
        views: views of each image.
        operations: the crop, and what acts on a view after it was cut and resized, in order; see `Recipe.acting`.
        backend: where decoding and rendering run.
        threads: CPU threads.
        device: number of the GPU; default this process's own.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch: int,
        *,
        views: int = 1,
        operations: Sequence[Operation] = (Crop(),),
        backend: Backend = "dali-cpu",
        threads: int = 2,
        device: int | None = None,
    ) -> None:
        if backend == "dali-gpu" and not torch.cuda.is_available():
            raise StillroomError("backend dali-gpu needs an NVIDIA GPU and there is none; use integer-cpu or dali-cpu")
        self.sizes = tuple(sizes)
        self.views = views
        self.operations = tuple(operations)
        self._backend: Backend = backend
        crop = self.operations[0]
        assert isinstance(crop, Crop), "a view begins with its crop"
        kind, _, antialias = crop.resize.partition("-")
        self._cubic, self._antialias = kind == "bicubic", bool(antialias)
        self._applied = [item for item in self.operations[1:] if isinstance(item, DaliOperation)]
        if backend == "integer-cpu":
            self._refuse_operators()
            self._applied = []
        self._painter = Painter(threads)
        self._batch, self._threads = batch, threads
        own = own_device().index if device is None else device
        self._device = own if backend == "dali-gpu" else None
        self._requests: Iterator[Request] = iter(())
        self._fed: deque[Request] = deque()
        self._lent = Lent(_AHEAD + 2)
        # Weak: a stream holds its renderer, and a cycle would be torn down in any order.
        self._stream: weakref.ref[Generator[list[torch.Tensor], None, None]] | None = None
        self._pipeline: Any = None

    @property
    def device(self) -> torch.device:
        """Where views come out."""
        return torch.device("cpu") if self._device is None else torch.device("cuda", self._device)

    def render(self, request: Request) -> list[torch.Tensor]:
        """One batch; see `stream`."""
        (pixels,) = self.stream([request])
        return pixels

    def stream(self, requests: Iterable[Request]) -> Iterator[list[torch.Tensor]]:
        """Render batches in order, a few ahead of what is asked for. A new stream ends the one before.

        Yields:
            For each size, uint8 [views, n, size, size, 3] on the backend's device.

        Raises:
            DataError: an image cannot be decoded.
        """
        before = self._stream() if self._stream is not None else None
        if before is not None:
            before.close()
        stream = self._rendered(requests)
        self._stream = weakref.ref(stream)
        return stream

    def _rendered(self, requests: Iterable[Request]) -> Generator[list[torch.Tensor], None, None]:
        if self._pipeline is None:
            self._pipeline = self._build()
        self._requests = iter(requests)
        self._fed.clear()
        try:
            while (outputs := self._run()) is not None:
                # Read by torch: `run` without a stream waits for this batch, and for no later one ("the results are
                # host-synchronous", `Pipeline.run`). Written by DALI again: memory that it lent by DLPack stays out of
                # its pools until the device has done all that was queued when torch let go of it, on any stream
                # (`DLTensorGraveyard` in DALI's dltensor.cc).
                request = self._fed.popleft()
                if self._backend == "integer-cpu":
                    yield self._from_windows(outputs, request)
                    continue
                branches = [torch.utils.dlpack.from_dlpack(output.as_tensor()) for output in outputs]
                for place, branch in enumerate(branches):  # in DALI's own memory: nobody else reads what it gave out
                    self._painter.paint(branch, self._steps(request.views[place // len(self.sizes)]))
                yield [
                    torch.stack(branches[first :: len(self.sizes)]) if self.views > 1 else branches[first][None]
                    for first in range(len(self.sizes))
                ]
        finally:
            # Whoever stops early leaves batches in DALI's queue, which the next stream must not get.
            self._requests = iter(())
            if not sys.is_finalizing():
                while self._pipeline is not None and self._run() is not None:
                    pass
            if self._pipeline is not None:
                self._pipeline.reset()
            self._lent.clear()

    def _from_windows(self, outputs: Any, request: Request) -> list[torch.Tensor]:
        """Views from decoded windows, one output of n for each view."""
        found = [
            torch.empty((self.views, len(request.images), size, size, 3), dtype=torch.uint8) for size in self.sizes
        ]
        for number, (output, views) in enumerate(zip(outputs, request.views, strict=True)):
            windows = [np.asarray(output.at(place)) for place in range(len(output))]
            steps = self._steps(views)
            for pixels in found:
                self._painter.make(windows, pixels[number], steps, cubic=self._cubic, antialias=self._antialias)
        return found

    def _steps(self, views: Views) -> list[Steps]:
        """What is not in the graph."""
        found = []
        for item in self.operations[1:]:
            drawn = views.drawn[item.op]
            if isinstance(item, PixelOperation):
                found.append(drawn)
            elif isinstance(item, DaliOperation) and item not in self._applied:
                steps = item.as_steps(drawn)
                assert steps is not None
                found.append(steps)
        return found

    def _refuse_operators(self) -> None:
        for item in self._applied:
            if item.as_steps(np.zeros(0, np.int32)) is None:
                raise ConfigError(
                    f'operation {item.op!r} is one of DALI\'s, which render.backend = "integer-cpu" has not; '
                    'use "dali-cpu", or "auto"'
                )

    def _run(self) -> Any:
        """Outputs of the next batch, or None after the last."""
        try:
            return self._pipeline.run()
        except StopIteration:
            return None
        except RuntimeError as error:
            self._pipeline = None  # DALI does not run it again after an error
            what = culprit(list(self._fed), self._alone) if self._batch > 1 else "an image"
            self._fed.clear()
            raise DataError(f"DALI could not render {what}: {_cause(error)}") from error

    def _build(self) -> Any:
        # With the dynamic executor outputs stay valid for as long as they are referenced, so nothing is copied.
        pipeline = Pipeline(
            batch_size=self._batch,
            num_threads=self._threads,
            device_id=self._device,
            prefetch_queue_depth=_AHEAD,
            exec_dynamic=True,
        )
        with pipeline:
            pipeline.set_outputs(*self._graph("cpu" if self._device is None else "mixed"))
        pipeline.build()
        return pipeline

    def _alone(self) -> "Renderer":
        """The same for one image at a time."""
        return Renderer(
            self.sizes,
            1,
            views=self.views,
            operations=self.operations,
            backend=self._backend,
            threads=self._threads,
            device=self._device,
        )

    def _next(self) -> Sequence[Any]:
        request = next(self._requests)
        self._fed.append(request)
        assert len(request.views) == self.views
        fed: list[Any] = [samples(request.images)]
        for views in request.views:
            assert views.drawn.keys() == {item.op for item in self.operations}, "drawn by another recipe"
            fed += [rows(views.window), *(rows(views.drawn[item.op]) for item in self._applied)]
        return self._lent.keep(fed)

    def _graph(self, device: str) -> list[Any]:
        one_view = [types.INT32, *(_TYPES[item.dtype] for item in self._applied)]
        inputs = [types.UINT8, *(one_view * self.views)]
        dims = [1, *([1, *(item.dims for item in self._applied)] * self.views)]
        # Not a bound method: a cycle through DALI's objects would keep the pipeline and its threads alive.
        renderer = weakref.ref(self)
        fed = fn.external_source(
            source=lambda: _fed_by(renderer), num_outputs=len(inputs), dtype=inputs, ndim=dims, batch=True, no_copy=True
        )
        # On the CPU, a window can be decoded for itself, with the same bits at two thirds of the time; several of one
        # image cost less cut from the whole.
        alone = device == "cpu" and self.views == 1
        image = None if alone else fn.decoders.image(fed[0], device=device, **DECODING)
        interpolation = types.INTERP_CUBIC if self._cubic else types.INTERP_LINEAR
        outputs = []
        for first in range(1, len(fed), len(one_view)):
            window, *drawn = fed[first : first + len(one_view)]
            cut = (
                fn.decoders.image_slice(fed[0], window[0:2], window[2:4], axes=(0, 1), device=device, **DECODING)
                if alone
                else fn.slice(image, window[0:2], window[2:4], axes=(0, 1))
            )
            if self._backend == "integer-cpu":
                outputs.append(cut)
                continue
            for size in self.sizes:
                view = fn.resize(cut, size=[size, size], interp_type=interpolation, antialias=self._antialias)
                for operation, parameters in zip(self._applied, drawn, strict=True):
                    view = operation.apply(view, parameters, fn)
                outputs.append(view)
        return outputs


def _fed_by(renderer: "weakref.ref[Renderer]") -> Sequence[Any]:
    """What a renderer feeds its pipeline next."""
    found = renderer()
    if found is None:  # collected together with a stream that was left, which empties DALI's queue as it goes
        raise StopIteration
    return found._next()


def _cause(error: BaseException) -> str:
    """DALI's own reason, without its traceback of the graph."""
    text = str(error)
    reason = text.partition("encountered:")[2] or text
    lines = [line.strip() for line in reason.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("C++ context", "Current pipeline")))
