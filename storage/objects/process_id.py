"""Which process wrote something, and whether it still runs: for claims, and for temporary files that a kill left."""

import functools
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, told from every other one on any machine.

    Attributes:
        host: name of its machine, for people.
        machine: eight hexadecimal digits of one boot and one PID namespace: containers share hosts, not numbers.
        pid: its number there.
        started: clock ticks from boot to its start; numbers are used again.
    """

    host: str
    machine: str
    pid: int
    started: int

    @classmethod
    def here(cls) -> "Process":
        """This one."""
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), pid, _started(pid) or 0)

    def ended(self) -> bool:
        """Whether it is known to run no more. False for a process of another machine, which cannot be seen."""
        return self.machine == _machine() and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"

    def short(self) -> str:
        """For a file's name."""
        return f"{self.machine}-{self.pid}-{self.started}"

    @classmethod
    def from_short(cls, text: str) -> "Process | None":
        """The inverse of `short`, the host's name apart; None for anything else."""
        machine, _, rest = text.partition("-")
        pid, _, started = rest.partition("-")
        if len(machine) != 8 or not pid.isdecimal() or not started.isdecimal():
            return None
        return cls("", machine, int(pid), int(started))


@functools.cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 not a path
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """Start of a running process in clock ticks since boot; None where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
