"""Executors by name: in this process, on Dask, and those that installed packages bring. Knows no stage.

A package brings one by an entry point of the group `stillroom.executors`, which names a function from a `Request`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from stillroom.stages.run.executor import Executor, InProcess
from stillroom.stages.run.shutdown import StopRequest
from stillroom.storage.errors import ConfigError, among

GROUP = "stillroom.executors"
PROCESS = "process"


@dataclass(frozen=True)
class Request:
    """What an executor is asked for.

    Attributes:
        where: what stands after its name and a colon: "local" of "dask:local"; "" without one.
        workers: how many; None: as many as suit.
        stop: whether we were asked to stop.
        crew: to be told how many workers there are, whenever that changes.
    """

    where: str
    workers: int | None
    stop: StopRequest
    crew: Callable[[int], None]


Open = Callable[[Request], Executor]


def executor_named(name: str) -> Open:
    """What opens an executor.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in _OWN:
        return _OWN[name]
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        raise ConfigError(f"there is no executor {name!r}; {among(name, [*_OWN, *sorted(points)])}")
    opened: Open = points[name].load()
    return opened


def _in_process(request: Request) -> Executor:
    if request.where:
        raise ConfigError(f"executor {PROCESS}:{request.where}: this process is nowhere else; say {PROCESS} alone")
    return InProcess(request.stop)


def _on_dask(request: Request) -> Executor:
    if not request.where:
        raise ConfigError("executor dask: say where, as dask:local, dask:cuda, dask:slurm, or dask:ADDRESS")
    from .dask.executor import Dask  # slow to import, and most runs do without

    return Dask(request.where, request.workers, request.stop, request.crew)


_OWN: Mapping[str, Open] = {PROCESS: _in_process, "dask": _on_dask}
