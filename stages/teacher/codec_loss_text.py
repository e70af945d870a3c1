"""What a codec lost of a teacher's answers, in words: for the command line and for the report."""

from collections.abc import Mapping
from typing import Any

from stillroom.storage.cache.layout import plain_shard
from stillroom.storage.codecs.kinds import kind_of
from stillroom.storage.writers.loss_summary import FACTS, join_losses


def by_temperature(lost: Mapping[str, Any], key: str) -> str:
    """A figure at each temperature: "0.0089 · 0.013 (T = 1 · 2)"."""
    values = " · ".join(f"{value:.2g}" for value in lost[key])
    temperatures = " · ".join(f"{temperature:g}" for temperature in lost["temperatures"])
    return f"{values} (T = {temperatures})"


def in_words(lost: Mapping[str, Any]) -> str:
    """One line of figures; see `loss_summary.join_losses` for them."""
    line = (
        f"{lost['name']}, {lost['bytes_per_view']:.3g} bytes of logits a view; "
        f"KL · T² lost {by_temperature(lost, 'kl_mean')} nats, "
        f"p99 up to {max(lost['kl_p99']):.2g}, top-1 agreement {lost['top1']:.1%}"
    )
    if kind_of(lost["name"]).fitted:
        line += f"; {lost['refined']:,} of {lost['chunks']:,} chunks refined, {lost['exact']:,} rows lossless"
    return line


def of_blocks(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the blocks among a stage's results lost, a line for each teacher; and one for its plain views."""
    blocks: dict[str, list[Mapping[str, Any]]] = {}
    for name, result in results.items():
        if FACTS in result:
            teacher = name.split("/")[1] + ("" if plain_shard(name) is None else ", plain views")
            blocks.setdefault(teacher, []).append(result)
    joined = {name: join_losses(found) for name, found in blocks.items()}
    return [f"{name}: {in_words(lost)}" for name, lost in joined.items() if lost is not None]
