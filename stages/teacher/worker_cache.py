"""What a worker process builds once: the loaded teacher, and what makes its blocks, pilot and plain views."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from stillroom.pipeline.config.config import Config
from stillroom.pipeline.config.sections import Teacher
from stillroom.pipeline.models.teacher import LoadedTeacher, load_teacher
from stillroom.pipeline.models.weights.location import at_hand, fetch
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.teacher.blocks import BlockMaker, held_at_once, views_at_once
from stillroom.pipeline.teacher.plain_views import PlainMaker
from stillroom.stages.run.build_cache import built_once, release
from stillroom.stages.run.resources import backend_of, threads_of

_DECODED_TOGETHER = 64
_given: ContextVar[Mapping[str, LoadedTeacher]] = ContextVar("_given", default={})  # noqa: B039
"""Teachers that a Python program has given for a while."""


@contextmanager
def given(teacher: LoadedTeacher) -> Iterator[None]:
    """Within it, this is the teacher of that name, whatever the config says of its weights."""
    release()
    before = _given.set({**_given.get(), teacher.name: teacher})
    try:
        yield
    finally:
        _given.reset(before)
        release()


def can_be_asked(section: Teacher) -> bool:
    """Whether a teacher can be asked here: it is given, or its weights are at hand."""
    return section.name in _given.get() or at_hand(section) is not None


@built_once
def loaded_teacher(section: Teacher, classes: tuple[str, ...]) -> LoadedTeacher:
    """A teacher of the config, ready to answer; its weights are fetched where they are not here."""
    if section.name in _given.get():
        return _given.get()[section.name]
    fetch(section)
    return load_teacher(section, classes)


@built_once
def block_maker(config: Config, section: Teacher, classes: tuple[str, ...], slots: int) -> BlockMaker:
    """Makes whole blocks of data shards of up to `slots` samples, several views to a decode."""
    views = views_at_once(slots, section.size, config.views.views_per_block, config.render.memory_mb)
    return _maker(config, section, classes, slots, views)


def single_maker(config: Config, section: Teacher, classes: tuple[str, ...], slots: int) -> BlockMaker:
    """Answers for some samples of one view at a time."""
    return _maker(config, section, classes, slots, 1)


@built_once
def plain_maker(config: Config, section: Teacher, classes: tuple[str, ...], slots: int) -> PlainMaker:
    """Answers for plain views of data shards of up to `slots` samples."""
    batch = min(_DECODED_TOGETHER, slots)
    renderer = Renderer((section.size,), batch, backend=backend_of(config), threads=threads_of(config))
    return PlainMaker(loaded_teacher(section, classes), renderer, config.data.eval_crop, batch)


def _maker(config: Config, section: Teacher, classes: tuple[str, ...], slots: int, views: int) -> BlockMaker:
    batch = min(_DECODED_TOGETHER, slots)
    renderer = Renderer(
        (section.size,),
        batch,
        views=views,
        operations=config.views.recipe.acting,
        backend=backend_of(config),
        threads=threads_of(config),
    )
    held = held_at_once(section.size, config.render.memory_mb, section.batch_size)
    return BlockMaker(loaded_teacher(section, classes), config.views.recipe, renderer, batch, held)
