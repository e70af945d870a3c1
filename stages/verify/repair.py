"""Repair: forget that bad tasks were done, so that the next run of their stage does exactly those again."""

from collections.abc import Sequence

from stillroom.pipeline.config.config import Config
from stillroom.stages.run.places import holdings
from stillroom.storage.cache.layout import claim_of_task
from stillroom.storage.cache.sealing import unseal
from stillroom.storage.ledger.claims import Claim, Claims
from stillroom.storage.ledger.ledger import Ledger
from stillroom.storage.ledger.sealed import SEALED_TASK
from stillroom.storage.objects.base import Place


def repair(config: Config, tasks: Sequence[tuple[str, str]]) -> list[str]:
    """Drop the records of tasks.

    Args:
        config: of the run.
        tasks: name of a holding and of a task in its ledger, as `verify` found them.

    Returns:
        A line for each; one that another writer has in hand is left to it.
    """
    places: dict[str, Place] = {holding.name: holding.place for holding in holdings(config)}
    claims = Claims()
    lines = []
    for name, task in tasks:
        with claims.taken(places[name], claim_of_task(task)) as claim:
            if isinstance(claim, Claim):
                if task == SEALED_TASK:
                    back = unseal(places[name])
                    lines.append(
                        f"{name}: the sealed ledger was damaged; {back:,} records in it were whole and are kept"
                    )
                    continue
                Ledger(places[name]).drop(task)
                lines.append(f"{name}: {task} will be done again")
            else:
                lines.append(f"{name}: {task} is in hand of {claim}")
    return lines
