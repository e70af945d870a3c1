"""Checking that nothing is left to do before the students: every task of the stages up to the teacher's is done.

A record that is gone, or that is of other inputs, leaves no damaged object behind; only the list of tasks tells.
"""

from stillroom.pipeline.config.config import Config
from stillroom.stages.ingest.stage import STAGE as INGEST
from stillroom.stages.teacher.seeds import STAGE as SEEDS
from stillroom.stages.teacher.stage import STAGE as TEACHER
from stillroom.storage.errors import StillroomError, UnreachableError
from stillroom.storage.ledger.ledger import Ledger

from .findings import Failure, Finding

CHECK = "tasks"


def check_tasks(config: Config) -> Finding:
    """Every task's record, as its stage looks for it."""
    finding = Finding({CHECK: 0})
    for stage in (INGEST, SEEDS, TEACHER):
        try:
            tasks, check = stage.tasks(config), stage.done(config)
        except UnreachableError:
            raise
        except StillroomError as error:
            finding.failures.append(Failure(CHECK, stage.name, str(error)))
            break  # the stages after it build on it
        for task in tasks:
            assert stage.homes is not None
            (home,) = stage.homes(config, task)
            holding = task.name.partition("/")[0] if stage is INGEST else "cache"
            where = f"{holding}: {Ledger(home.place).name(home.record)}"
            finding.checked[CHECK] += 1
            try:
                if check(task):
                    continue
                message = f"{task.name} is not done; run `stillroom {stage.name}`"
            except UnreachableError:
                raise
            except StillroomError as error:
                message = str(error)
            about = holding, home.record
            redo = about if Ledger(home.place).has(home.record) else None
            finding.failures.append(Failure(CHECK, where, message, redo, about))
    return finding
