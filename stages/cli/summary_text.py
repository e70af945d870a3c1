"""What people read of a stage once it has run: a sentence, and the figures that are worth a line of their own."""

from typing import Any

from stillroom.stages.executors.array_index import Job
from stillroom.stages.run.executor import Summary
from stillroom.stages.run.progress import duration
from stillroom.stages.run.stage import Stage
from stillroom.stages.teacher.codec_loss_text import in_words, of_blocks


def sentence(stage: Stage, summary: Summary, job: Job | None = None) -> str:
    """How much was done, and how fast; by a job of several, also how much was not its own."""
    if job is not None:
        others = f"; {summary.left:,} tasks were other jobs'" if summary.left else ""
        return f"{job}: {sentence(stage, summary)}{others}"
    if not summary.ran:
        return "up to date" if summary.skipped else "nothing to do"
    rate = f", {summary.units / summary.seconds:,.0f}/s" if summary.units > summary.ran else ""
    return f"{summary.units:,} {stage.unit} in {duration(summary.seconds)}{rate}"


def details(summary: Summary) -> list[str]:
    """What is worth a line of its own beside the sentence."""
    if summary.concluded is not None:
        lines = [
            f"{name}: {check['checked']:,} checked, {check['failed']} failed"
            + (
                f", KL to cache mean {check['kl_mean']:.2g}, max {check['kl_max']:.2g} nats"
                if "kl_mean" in check
                else ""
            )
            for name, check in summary.concluded["checks"].items()
        ]
        lost = summary.concluded["checks"].get("codec", {}).get("teachers", {})
        lines += [f"{name}: {in_words(item)}" for name, item in lost.items()]
        return [*lines, *summary.concluded["skipped"]]
    results = dict(summary.results)
    for name in list(results):
        results |= results[name].get("students", {})
    shown = ("accepted", "rejected", "samples", "top1", "top5", "kl", "path")
    lines = []
    for name, result in results.items():
        figures = [f"{key} {_figure(result[key])}" for key in shown if key in result]
        if (figures and summary.stage in ("ingest", "student", "train-many", "report")) or name.endswith("evaluation"):
            lines.append(f"{name}: {', '.join(figures)}")
        if "note" in result:
            lines.append(f"{name}: {result['note']}")
    return [*lines[:20], *(of_blocks(summary.results) if summary.stage == "teacher" else ())]


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
