"""The [submit] section of a configuration: what a cluster is asked for. Nothing that is computed depends on it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .sections import Section
from .types import Name


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError(f"{text!r} has more than one line; give each its own")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
StageName = Literal["all", "ingest", "seeds", "teacher", "verify", "student", "train-many", "report"]


class Submit(Section):
    """What `submit` and `--dask slurm` ask for; a stage's own table goes before "all". See [cluster.md](cluster.md)."""

    name: StageName = Field("all", description="the stage that this is for")
    jobs: int | None = Field(
        None, ge=1, description="jobs that share the stage; default 8 for ingest, teacher and verify, one per student"
    )
    cpus: int = Field(4, ge=1, description="CPU cores of each job")
    gpus: int = Field(0, ge=0, description="GPUs of each job")
    memory: str = Field("16G", pattern=r"^[1-9][0-9]*[MGT]$", description="of each job, in binary units")
    time: str | None = Field(
        None,
        pattern=r"^[0-9]+(-[0-9]+)?(:[0-9]+){0,2}$",
        description='Slurm: wall time of each job, such as "04:00:00"',
    )
    partition: Name | None = Field(None, description="Slurm")
    account: Name | None = Field(None, description="Slurm")
    lines: tuple[Line, ...] = Field(
        (), description='Slurm: more lines of the script\'s head, such as "#SBATCH --qos=low"'
    )
    activate: Line | None = Field(
        None, description='Slurm: a shell line that comes before the command, such as "source /opt/env/bin/activate"'
    )
    python: str | None = Field(
        None, description='the interpreter; default: the one that submits, "python" in containers'
    )
    image: str | None = Field(None, description="Kubernetes: the container's image, with stillroom in it")
    claim: Name | None = Field(
        None, description="Kubernetes: the PersistentVolumeClaim that holds config, data and run"
    )
    mount: str | None = Field(
        None, pattern="^/", description="Kubernetes: where it is mounted; default: the working directory"
    )
    parallel: int | None = Field(None, ge=1, description="jobs of a stage at a time; default: all")
    dir: str | None = Field(None, description="where scripts and logs go, a local folder; default <run.dir>/jobs")


def asked_for(tables: Sequence[Submit], stage: str) -> Submit:
    """What a stage asks for: its own table, over the one for all."""
    named = {table.name: table for table in tables}
    common = named.get("all", Submit())
    own = named.get(stage)  # type: ignore[call-overload]
    if own is None:
        return common
    return common.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})
