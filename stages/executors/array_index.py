"""Which job of an array this process is: said by --job, or by the scheduler's variables.

A pure function of both; knows nothing of what jobs do. Every job is a share of the work, numbered from 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stillroom.storage.errors import ConfigError

COUNT = "STILLROOM_JOBS"
"""How many jobs share a stage, where the scheduler does not say, or where a few of an array run again."""

Variables = Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """One job of an array.

    Attributes:
        index: its number, from 0.
        count: of how many.
        said_by: the option or variable that said so, for people.
    """

    index: int
    count: int
    said_by: str

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(
                f"{self.said_by} makes this job {self.index} of {self.count}; jobs are numbered from 0, so it must be "
                f"from 0 to {max(self.count - 1, 0)}; check the array's range and {COUNT}"
            )

    def has(self, place: int) -> bool:
        """Whether the task at that place of a stage's list is in this job's share."""
        return place % self.count == self.index

    def __str__(self) -> str:
        return f"job {self.index} of {self.count}"


def find_job(option: str | None, variables: Variables) -> Job | None:
    """This process's job.

    Args:
        option: "I/N", as --job says it; it goes before all variables. "0/1" takes the whole work.
        variables: the environment.

    Returns:
        None outside any array.

    Raises:
        ConfigError: what is said makes no job, or not how many there are.
    """
    if option is not None:
        index, _, count = option.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise ConfigError(f"--job {option} is not I/N, such as 0/8 for the first of eight jobs")
        return Job(int(index), int(count), f"--job {option}")
    for scheduler in (_slurm, _lsf, _sge, _pbs, _torque, _kubernetes):
        job = scheduler(variables)
        if job is not None:
            return job
    return None


def _slurm(variables: Variables) -> Job | None:
    return _in_range(
        variables,
        "SLURM_ARRAY_TASK_ID",
        base=0,
        first="SLURM_ARRAY_TASK_MIN",
        last="SLURM_ARRAY_TASK_MAX",
        step="SLURM_ARRAY_TASK_STEP",
        size="SLURM_ARRAY_TASK_COUNT",
    )


def _lsf(variables: Variables) -> Job | None:
    if variables.get("LSB_JOBINDEX", "0") == "0":  # as it is outside arrays
        return None
    return _in_range(variables, "LSB_JOBINDEX", base=1, last="LSB_JOBINDEX_END", step="LSB_JOBINDEX_STEP")


def _sge(variables: Variables) -> Job | None:
    if variables.get("SGE_TASK_ID", "undefined") == "undefined":  # as it is outside arrays
        return None
    return _in_range(
        variables, "SGE_TASK_ID", base=1, first="SGE_TASK_FIRST", last="SGE_TASK_LAST", step="SGE_TASK_STEPSIZE"
    )


def _counted_apart(index: str) -> Callable[[Variables], Job | None]:
    """Of a scheduler that gives the index alone."""
    return lambda variables: _in_range(variables, index, base=0)


_pbs = _counted_apart("PBS_ARRAY_INDEX")
_torque = _counted_apart("PBS_ARRAYID")
_kubernetes = _counted_apart("JOB_COMPLETION_INDEX")


def _in_range(
    variables: Variables,
    name: str,
    *,
    base: int,
    first: str | None = None,
    last: str | None = None,
    step: str | None = None,
    size: str | None = None,
) -> Job | None:
    """The job whose index is a variable's value, in an array whose range others tell.

    Args:
        variables: the environment.
        name: of the variable with the index.
        base: index of the first job, where only the count is known, or where the first is not told.
        first, last, step, size: names of the variables that tell the range, as far as there are any.
    """
    if name not in variables:
        return None
    index = _number(variables, name)
    if COUNT in variables:
        return Job(index - base, _number(variables, COUNT), f"{name}={index} with {COUNT}={variables[COUNT]}")
    start = _number(variables, first) if first in variables else base
    stride = (_number(variables, step) if step in variables else 1) or 1
    end = _number(variables, last) if last in variables else None
    said = f"{name}={index}"
    if end is None or (first is not None and first not in variables):
        raise ConfigError(f"{said} says which job of an array this is, but not of how many; set {COUNT}")
    count = (end - start) // stride + 1
    told = _number(variables, size) if size in variables else count
    if told != count or (index - start) % stride:
        raise ConfigError(
            f"{said} is of an array with gaps, from {start} to {end}, which does not say whose share it is; "
            f"set {COUNT} to how many jobs share the work, and number them from 0"
        )
    return Job((index - start) // stride, count, said)


def _number(variables: Variables, name: str | None) -> int:
    assert name is not None
    text = variables[name]
    if not text.isdecimal():
        raise ConfigError(f"{name}={text} is not a number, 0 or more")
    return int(text)
