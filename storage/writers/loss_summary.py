"""What the encoding of many blocks lost of a teacher's answers, added up from their records alone."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FACTS = "codec"
"""Key of these figures in a block's record; see `BlockFacts.facts`."""


def join_losses(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What all blocks' records say together; None where none says anything, as those of older caches.

    Args:
        blocks: facts of whole records.

    Returns:
        The same keys as `BlockFacts.facts`, and "blocks", "views". Means are by views; "kl_p99" and "kl_max"
        are those of the worst block. Where blocks were measured at different temperatures, those that all of them have.
    """
    found = [(facts[FACTS], int(facts["views"])) for facts in blocks if FACTS in facts]
    if not found:
        return None
    views = sum(count for _, count in found)
    common = sorted(set.intersection(*({float(t) for t in item["temperatures"]} for item, _ in found)))

    def at(item: Mapping[str, Any], key: str) -> npt.NDArray[np.float64]:
        return np.array([item[key][item["temperatures"].index(t)] for t in common])

    def mean(key: str) -> float:
        return float(sum(item[key] * count for item, count in found)) / views

    weighted = sum(at(item, "kl_mean") * count for item, count in found) / views
    return {
        "name": found[0][0]["name"],
        "blocks": len(found),
        "views": views,
        "bytes_per_view": mean("bytes_per_view"),
        **{key: sum(int(item[key]) for item, _ in found) for key in ("chunks", "refined", "exact", "rows")},
        "refine_max": max(int(item["refine_max"]) for item, _ in found),
        "temperatures": common,
        "kl_mean": np.asarray(weighted).tolist(),
        "kl_p99": np.max([at(item, "kl_p99") for item, _ in found], axis=0).tolist(),
        "kl_max": np.max([at(item, "kl_max") for item, _ in found], axis=0).tolist(),
        "top1": mean("top1"),
    }
