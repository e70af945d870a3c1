"""What people should know before a teacher is asked: where the recipe prepares images otherwise than its library."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.own_preprocessing import own_preprocessing


def notes(config: Config) -> Sequence[str]:
    """A line for each teacher whose library states another filter or crop."""
    return [line for section in config.teacher for line in _differences(config, section)]


def _differences(config: Config, section: Teacher) -> Iterator[str]:
    own = None if _trained_here(section.weights) else own_preprocessing(section.model)
    if own is None:
        return
    theirs: dict[str, str | float | None] = {"views.resize": own.resize}
    if config.data.evaluates:
        theirs |= {"data.eval_resize": own.resize, "data.eval_crop": round(own.crop, 3)}
    ours: dict[str, str | float] = {
        "views.resize": config.views.resize,
        "data.eval_resize": config.data.eval_resize,
        "data.eval_crop": round(config.data.eval_crop, 3),
    }
    differing = {name: value for name, value in theirs.items() if value is not None and value != ours[name]}
    if differing:
        yield (
            f"teacher {section.name!r}: {section.model} is evaluated by its library as if "
            f"{', '.join(f'{name} = {value!r}' for name, value in differing.items())}; this run has "
            f"{', '.join(repr(ours[name]) for name in differing)}"
        )


def _trained_here(path: str) -> bool:
    """Whether stillroom wrote the weights: then the recipe that they were trained on is not their library's."""
    if Path(path).suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="np") as opened:
            return "classes" in (opened.metadata() or {})
    except (OSError, SafetensorError):  # whoever reads the weights says so
        return True
