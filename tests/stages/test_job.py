"""Which job of an array a process is, from the variables of every scheduler."""

import pytest

from stillroom.stages.executors.array_index import find_job
from stillroom.storage.errors import ConfigError


def slurm(index, first, last, step, count):
    names = ("ID", "MIN", "MAX", "STEP", "COUNT")
    values = (index, first, last, step, count)
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in zip(names, values, strict=True)}


def sge(index, first, last, step):
    return {"SGE_TASK_ID": index, "SGE_TASK_FIRST": first, "SGE_TASK_LAST": last, "SGE_TASK_STEPSIZE": step}


@pytest.mark.parametrize(
    ("variables", "index", "count"),
    [
        (slurm(0, 0, 7, 1, 8), 0, 8),
        (slurm(7, 0, 7, 1, 8), 7, 8),
        (slurm(3, 1, 3, 1, 3), 2, 3),
        (slurm(20, 10, 30, 5, 5), 2, 5),
        (slurm(5, 5, 5, 1, 1), 0, 1),
        ({**slurm(5, 5, 5, 1, 1), "STILLROOM_JOBS": "8"}, 5, 8),
        ({**slurm(6, 2, 6, 1, 3), "STILLROOM_JOBS": "8"}, 6, 8),
        ({"SLURM_ARRAY_TASK_ID": "2", "STILLROOM_JOBS": "4"}, 2, 4),
        ({"JOB_COMPLETION_INDEX": "3", "STILLROOM_JOBS": "4"}, 3, 4),
        ({"PBS_ARRAY_INDEX": "0", "STILLROOM_JOBS": "2"}, 0, 2),
        ({"PBS_ARRAYID": "1", "STILLROOM_JOBS": "2"}, 1, 2),
        ({"LSB_JOBINDEX": "1", "LSB_JOBINDEX_END": "8"}, 0, 8),
        ({"LSB_JOBINDEX": "8", "LSB_JOBINDEX_END": "8", "LSB_JOBINDEX_STEP": "1"}, 7, 8),
        ({"LSB_JOBINDEX": "7", "LSB_JOBINDEX_END": "10", "LSB_JOBINDEX_STEP": "3"}, 2, 4),
        ({"LSB_JOBINDEX": "8", "STILLROOM_JOBS": "8"}, 7, 8),
        (sge("1", "1", "5", "1"), 0, 5),
        (sge("6", "2", "10", "2"), 2, 5),
        ({"SGE_TASK_ID": "5", "STILLROOM_JOBS": "5"}, 4, 5),
    ],
)
def test_every_scheduler_says_which_job_of_how_many(variables, index, count):
    job = find_job(None, variables)
    assert (job.index, job.count) == (index, count)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"STILLROOM_JOBS": "4"},
        {"SLURM_JOB_ID": "12"},
        {"LSB_JOBINDEX": "0", "LSB_JOBINDEX_END": "0"},
        sge("undefined", "undefined", "undefined", "undefined"),
    ],
)
def test_outside_arrays_there_is_no_job(variables):
    assert find_job(None, variables) is None


def test_the_option_goes_before_all_variables():
    job = find_job("1/3", slurm(0, 0, 7, 1, 8))
    assert (job.index, job.count) == (1, 3)


@pytest.mark.parametrize(
    ("option", "variables", "message"),
    [
        ("3/3", {}, r"--job 3/3 makes this job 3 of 3; jobs are numbered from 0, so it must be from 0 to 2"),
        ("0/0", {}, r"job 0 of 0"),
        ("-1/3", {}, r"--job -1/3 is not I/N"),
        ("3", {}, r"--job 3 is not I/N, such as 0/8"),
        ("a/b", {}, r"--job a/b is not I/N"),
        (None, {"SLURM_ARRAY_TASK_ID": "2"}, r"SLURM_ARRAY_TASK_ID=2 .* not of how many; set STILLROOM_JOBS"),
        (None, {"JOB_COMPLETION_INDEX": "2"}, r"JOB_COMPLETION_INDEX=2 .*; set STILLROOM_JOBS"),
        (None, {"PBS_ARRAY_INDEX": "2"}, r"PBS_ARRAY_INDEX=2 .*; set STILLROOM_JOBS"),
        (None, {"PBS_ARRAYID": "2"}, r"PBS_ARRAYID=2 .*; set STILLROOM_JOBS"),
        (None, {"LSB_JOBINDEX": "2"}, r"LSB_JOBINDEX=2 .*; set STILLROOM_JOBS"),
        (None, {"SGE_TASK_ID": "2"}, r"SGE_TASK_ID=2 .*; set STILLROOM_JOBS"),
        (None, {"SGE_TASK_ID": "2", "SGE_TASK_LAST": "4"}, r"set STILLROOM_JOBS"),
        (None, slurm(3, 1, 7, 1, 3), r"an array with gaps, from 1 to 7, .*; set STILLROOM_JOBS"),
        (None, {"LSB_JOBINDEX": "3", "LSB_JOBINDEX_END": "10", "LSB_JOBINDEX_STEP": "3"}, r"with gaps"),
        (None, {"PBS_ARRAY_INDEX": "4", "STILLROOM_JOBS": "4"}, r"with STILLROOM_JOBS=4 makes this job 4 of 4"),
        (None, {"LSB_JOBINDEX": "9", "STILLROOM_JOBS": "8"}, r"makes this job 8 of 8"),
        (None, {"PBS_ARRAYID": "1", "STILLROOM_JOBS": "two"}, r"STILLROOM_JOBS=two is not a number"),
        (None, {"PBS_ARRAYID": "x", "STILLROOM_JOBS": "2"}, r"PBS_ARRAYID=x is not a number"),
    ],
)
def test_what_makes_no_job_is_refused_by_name(option, variables, message):
    with pytest.raises(ConfigError, match=message):
        find_job(option, variables)
