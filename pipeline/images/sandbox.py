"""Judging images in a process of its own: one that crashes the decoder, never ends or fills memory is rejected by name.

Decoders are C code of many hands, and among millions of files there is one that they do not survive. Knows nothing of
what makes an image good; that is `decode_check`'s work, which `sandbox_worker` does on the other side.
"""

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillroom.storage.errors import StillroomError

from .batching import runs
from .verdict import Accepted, Rejected, Verdict

SECONDS = 10
"""Of computing that an image, or a batch, may take to be decoded."""
WALL_SECONDS = 60
"""The same by the clock, on a machine that does other work too, or where a decoder waits for ever."""
MEMORY = 1_600_000_000
"""Bytes that decoding may take, beyond what the process holds when it starts."""
TOGETHER = 64 * 2**20
"""Encoded bytes that are sent at a time."""
_TIMEOUTS = (signal.SIGPROF, signal.SIGALRM)

Image = npt.NDArray[np.uint8]


class Quarantine:
    """A process that judges images, and the next one where it dies of one. For one thread at a time.

    Args:
        seconds: of computing that an image, or a batch, may take.
        memory: bytes that decoding may take, beyond what the process holds when it starts.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.seconds, self.memory = seconds, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return None if self._process is None else self._process.pid

    def examine(self, images: Sequence[Image], max_pixels: int) -> list[Verdict]:
        """Judge images, each uint8 [bytes]; see `decode_check.examine`."""
        verdicts: list[Verdict] = []
        for batch in runs(images, len, TOGETHER):
            answer = self._ask(batch, max_pixels)
            if isinstance(answer, str):
                # One of them; what was judged before it does not weigh on it.
                alone = len(batch) == 1 and self._asked == 1
                verdicts += [Rejected(answer)] if alone else [self._alone(image, max_pixels) for image in batch]
            else:
                verdicts += answer
        return verdicts

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _close_pipes(process)

    def _alone(self, image: Image, max_pixels: int) -> Verdict:
        """The verdict on an image that may be the one, by a fresh process if need be."""
        answer = self._ask([image], max_pixels)
        if isinstance(answer, str) and self._asked > 1:
            answer = self._ask([image], max_pixels)
        return Rejected(answer) if isinstance(answer, str) else answer[0]

    def _ask(self, images: Sequence[Image], max_pixels: int) -> list[Verdict] | str:
        """Verdicts; or why there are none, and then the process has ended."""
        if self._process is None:
            self._process, self._asked = _start(self.seconds, self.memory), 0
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked += 1
        try:
            process.stdin.write(struct.pack(f"<QQ{len(images)}Q", max_pixels, len(images), *map(len, images)))
            for image in images:
                process.stdin.write(image.data)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        answer = json.loads(line) if line else None
        if isinstance(answer, list):
            return [Rejected(item) if isinstance(item, str) else Accepted(*item) for item in answer]
        status = process.wait()
        self.close()
        return str(answer) if answer is not None else self._cause(status)

    def _cause(self, status: int) -> str:
        """Why the process ended, as a reason to reject the image that it was at."""
        if -status in _TIMEOUTS:
            return f"takes more than {self.seconds} s to decode"
        if status < 0:
            return f"crashes the decoder ({signal.Signals(-status).name})"
        return f"ends the decoder (exit status {status})"


def examine_apart(images: Sequence[Image], max_pixels: int) -> list[Verdict]:
    """Judge images in this process's quarantine.

    Args:
        images: each uint8 [bytes], encoded, of any format.
        max_pixels: an image whose header claims more is not decoded.
    """
    global _quarantine
    with _lock:
        if _quarantine is None:
            _quarantine = Quarantine()
            atexit.register(_quarantine.close)
        return _quarantine.examine(images, max_pixels)


_lock = threading.Lock()
_quarantine: Quarantine | None = None
"""One for each process that ingests: it takes seconds to start."""


def _start(seconds: float, memory: int) -> "subprocess.Popen[bytes]":
    """A process that has said that it is ready.

    Raises:
        StillroomError: it does not start; its own words are on standard error.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "CUDA_VISIBLE_DEVICES": "",  # it decodes on the CPU, and a driver takes memory and time
    }
    # A session of its own: Ctrl-C is for the command, which decides what becomes of its work.
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "stillroom.pipeline.images.sandbox_worker", str(seconds), str(memory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        status = process.wait()
        _close_pipes(process)
        raise StillroomError(f"the process that examines images ended with status {status}; see what it said above")
    return process


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        try:
            pipe.close()
        except BrokenPipeError:
            continue  # what was left to be sent has no reader
