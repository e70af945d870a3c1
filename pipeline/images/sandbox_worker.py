"""The other side of `sandbox`: reads images from standard input, writes verdicts to standard output.

Limits on time and memory are the kernel's: they hold whatever a decoder does.
"""

import json
import os
import resource
import signal
import struct
import sys
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from .sandbox import WALL_SECONDS
from .verdict import Accepted, Verdict


def serve(questions: IO[bytes], answers: IO[bytes], seconds: float, memory: int) -> None:
    """Judge batch after batch until there are no more."""
    # DALI imports torch for the name of one type, which costs seconds and half a gigabyte; it does without as well.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from .decode_check import examine

    examine([np.frombuffer(_smallest(), np.uint8)], 1)  # the first one loads the decoders
    _limit_memory(memory)
    answers.write(b"ready\n")
    answers.flush()
    while head := questions.read(16):
        max_pixels, count = struct.unpack("<QQ", head)
        sizes = struct.unpack(f"<{count}Q", questions.read(8 * count))
        images = [np.frombuffer(questions.read(size), np.uint8) for size in sizes]
        # Both end the process. Time of computing counts alike on a busy machine; the clock is for a decoder that waits.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(WALL_SECONDS)
        try:
            answer: object = [_plain(verdict) for verdict in examine(images, max_pixels)]
        except MemoryError:
            answer = f"takes more than {memory / 1e9:.1f} GB to decode"
        except Exception as error:
            answer = f"cannot be judged: {type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        if isinstance(answer, str):
            return  # who knows what it left behind


def _plain(verdict: Verdict) -> tuple[int, int] | str:
    return (verdict.height, verdict.width) if isinstance(verdict, Accepted) else verdict.reason


def _limit_memory(memory: int) -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _smallest() -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    serve(os.fdopen(os.dup(0), "rb"), answers, float(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    main()
