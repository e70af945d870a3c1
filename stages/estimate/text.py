"""An estimate as people read it: a table of codecs for each teacher, and a few lines for each plan."""

from collections.abc import Iterator, Mapping
from typing import Any

from stillroom.stages.run.progress import duration
from stillroom.stages.teacher.codec_loss_text import by_temperature


def in_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines; see `estimate.estimate` for the figures."""
    machine = found["machine"]
    for teacher in found["teachers"]:
        probed = teacher["probe"]
        yield (
            f"teacher {teacher['name']}: {teacher['views_per_second']:,.1f} views/s on {machine['device']} "
            f"({probed['views']:,} views in {probed['seconds']:.0f} s, after {probed['startup_seconds']:.1f} s of "
            f"start-up); pilot of {teacher['pilot']['rows']:,} views"
        )
        if "note" in teacher["pilot"]:
            yield f"  {teacher['pilot']['note']}"
        temperatures = " · ".join(f"{value:g}" for value in teacher["codecs"][0]["temperatures"])
        heads = f"{'codec':14} {'bytes/view':>10}  {'top-1 agr.':>11} {'encode/s':>9}"
        yield f"  {heads}  KL · T² lost at T = {temperatures}"
        for codec in teacher["codecs"]:
            mark = "*" if codec["name"] == teacher["codec"] else " "
            kl = by_temperature(codec, "kl_mean").partition(" (")[0]
            yield (
                f"{mark} {codec['name']:14} {codec['bytes_per_view']:10.1f}  {codec['top1']:11.1%} "
                f"{codec['views_per_second']:9,.0f}  {kl}"
            )
    for plan in found["plans"]:
        hours = "gpu_hours" if "gpu_hours" in plan else "core_hours"
        yield (
            f"{plan['samples']:,} samples × {plan['views']:,} views: {_bytes(plan['bytes']['total'])} in "
            f"{plan['objects']:,} objects, {duration(plan['seconds'])}, {plan[hours]:,.2f} {hours.replace('_', '-')}"
        )
        others = ", ".join(f"{name} {_bytes(size)}" for name, size in plan["bytes_by_codec"].items())
        yield f"  {others}"
    yield from found["notes"]
    yield (
        "One worker; more divide the time. Bytes: logits, digests, canaries, seeds, ledger, metadata, pilot, "
        "evaluation, plain views."
    )


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} PB"
