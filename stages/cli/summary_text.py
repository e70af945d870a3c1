"""What people read of a stage once it has run: a sentence, and the figures that are worth a line of their own."""

from stillroom.stages.executors.array_index import Job
from stillroom.stages.run.executor import Summary
from stillroom.stages.run.figure_lines import MOST
from stillroom.stages.run.progress import duration
from stillroom.stages.run.stage import Stage


def sentence(stage: Stage, summary: Summary, job: Job | None = None) -> str:
    """How much was done, and how fast; by a job of several, also how much was not its own."""
    if job is not None:
        others = f"; {summary.left:,} tasks were other jobs'" if summary.left else ""
        return f"{job}: {sentence(stage, summary)}{others}"
    if not summary.ran:
        return "up to date" if summary.skipped else "nothing to do"
    rate = f", {summary.units / summary.seconds:,.0f}/s" if summary.units > summary.ran else ""
    return f"{summary.units:,} {stage.unit} in {duration(summary.seconds)}{rate}"


def details(stage: Stage, summary: Summary) -> list[str]:
    """What is worth a line of its own beside the sentence: what the stage says, and its tasks' notes."""
    lines = stage.details(summary.results, summary.concluded) if stage.details is not None else ()
    notes = [f"{name}: {result['note']}" for name, result in summary.results.items() if "note" in result]
    return [*lines, *notes[:MOST]]
