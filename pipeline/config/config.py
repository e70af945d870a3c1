"""Reading a configuration: one TOML file, `--set` on top, checked strictly, and where everything of a run is."""

import difflib
import tomllib
from collections.abc import Sequence
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from stillroom.storage.errors import ConfigError
from stillroom.storage.objects.base import Place
from stillroom.storage.objects.urls import open_place

from .sections import CacheSection, Data, Render, Run, Section, Student, Teacher, Verify, Views, as_list
from .submit import Submit, asked_for


class Config(Section):
    """A whole configuration. See `sections` for the sections."""

    run: Run
    data: Data
    views: Views = Field(default_factory=Views)
    render: Render = Field(default_factory=Render)
    teacher: tuple[Teacher, ...] = ()
    cache: CacheSection = Field(default_factory=CacheSection)
    verify: Verify = Field(default_factory=Verify)
    student: tuple[Student, ...] = ()
    submit: tuple[Submit, ...] = ()

    @field_validator("teacher", "student", "submit", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return as_list(value)

    @model_validator(mode="after")
    def _names(self) -> Self:
        for kind, items in (("teacher", self.teacher), ("student", self.student), ("submit", self.submit)):
            names = [item.name for item in items]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"two [[{kind}]] tables are named {name!r}; give each its own name")
        for student in self.student:
            self._check_student(student)
        return self

    def _check_student(self, student: Student) -> None:
        teachers = [teacher.name for teacher in self.teacher]
        if student.target != "labels" and not teachers:
            raise ValueError(
                f"student {student.name!r} has target = {student.target!r} and there is no [[teacher]]; "
                'add one, or use target = "labels"'
            )
        asked = _names(student.teacher)
        for name in asked:
            if name not in teachers:
                raise ValueError(
                    f"student {student.name!r} asks for teacher {name!r}; there are: {', '.join(teachers)}"
                )
        if len(set(asked)) < len(asked) or student.teacher == ():
            raise ValueError(f"student {student.name!r} has teacher = {list(asked)}; name each one once")
        if student.teacher_weights is not None and len(student.teacher_weights) != len(asked):
            raise ValueError(
                f"student {student.name!r} has {len(student.teacher_weights)} teacher_weights for {len(asked)} named "
                "teachers; give one for each"
            )
        shares = student.teacher_weights or (1.0,)
        if not all(0.0 <= share < inf for share in shares) or sum(shares) <= 0:
            raise ValueError(f"student {student.name!r}: teacher_weights are shares, 0 or more, and not all 0")
        if student.target == "online":
            for item in self.teachers_of(student):
                if not item.weights:
                    raise ValueError(
                        f'student {student.name!r} has target = "online", and teacher {item.name!r} is a module that '
                        'only its Python program has; use target = "cache"'
                    )
        if student.target != "cache":
            for key, stated in (("design", student.design != "consistent"), ("several teachers", len(asked) > 1)):
                if stated:
                    raise ValueError(f'student {student.name!r}: {key} needs target = "cache"')
        if student.design != "consistent" and self.views.mixup:
            raise ValueError(
                f"student {student.name!r} has design = {student.design!r}, which pairs pixels with logits of another "
                "view; partners of mixed views change from view to view, so set views.mixup = false"
            )
        if (student.views_used or 1) > self.views.count:
            raise ValueError(
                f"student {student.name!r} has views_used = {student.views_used}, and views.count is {self.views.count}"
            )
        if student.design == "independent" and self.views_of(student) < 2:
            raise ValueError(f"student {student.name!r} has design = 'independent', which needs 2 views or more")

    def teachers_of(self, student: Student) -> tuple[Teacher, ...]:
        """The teachers that a student is compared with, and learns from unless from labels."""
        asked = _names(student.teacher)
        named = {item.name: item for item in self.teacher}
        return tuple(named[name] for name in asked) if asked else self.teacher[:1]

    def views_of(self, student: Student) -> int:
        """How many views a student replays."""
        return student.views_used or self.views.count

    @model_validator(mode="after")
    def _without_labels(self) -> Self:
        for student in self.student if not self.data.labels else ():
            wants = 'target = "labels"' if student.target == "labels" else f"label_weight = {student.label_weight}"
            if student.target == "labels" or student.label_weight:
                raise ValueError(
                    f"student {student.name!r} has {wants}, and data.labels is false: its images have no labels of "
                    "the teacher's classes; let it learn from the teacher alone, or leave data.labels out"
                )
        return self

    @model_validator(mode="after")
    def _labels_of_other_classes(self) -> Self:
        for student in self.student:
            own = [item for item in self.teachers_of(student) if item.classes not in (None, self.data.classes)]
            wants = 'target = "labels"' if student.target == "labels" else f"label_weight = {student.label_weight}"
            if own and self.data.labels and (student.target == "labels" or student.label_weight):
                raise ValueError(
                    f"student {student.name!r} has {wants}, and teacher {own[0].name!r} states classes of its own, of "
                    "which the labels say nothing; let it learn from the teacher alone, or train it by a config "
                    "without that teacher"
                )
        return self

    @cached_property
    def run_place(self) -> Place:
        return open_place(self.run.dir)

    @cached_property
    def data_place(self) -> Place:
        return open_place(self.data.dir) if self.data.dir else self.run_place.at("data")

    @cached_property
    def eval_place(self) -> Place:
        return open_place(self.data.eval_dir) if self.data.eval_dir else self.run_place.at("eval")

    @cached_property
    def cache_place(self) -> Place:
        return open_place(self.cache.dir) if self.cache.dir else self.run_place.at("cache")

    @property
    def jobs_folder(self) -> Path:
        """Where scripts and logs of a cluster's jobs go; not made yet.

        Raises:
            ConfigError: it is not a local folder.
        """
        asked = asked_for(self.submit, "all")
        local = Path(asked.dir) if asked.dir is not None else self.run_place.at("jobs").local()
        if local is None:
            raise ConfigError(
                f"run.dir is {self.run.dir}; say in submit.dir in which local folder scripts and logs may go"
            )
        return local.absolute()

    def student_place(self, student: Student) -> Place:
        return open_place(student.dir) if student.dir else self.run_place.at(f"students/{student.name}")


def _names(teacher: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (teacher,) if isinstance(teacher, str) else teacher or ()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Args:
        path: a TOML file.
        overrides: "table.key=value" with the value as TOML, or a bare word for a string. For a table that is there
            several times, every one is set; "table.NAME.key" sets the one of that name.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong; names the key and the nearest known one.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; give the path of a configuration in TOML") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        _override(data, override)
    return parse_config(data, str(path))


def parse_config(data: dict[str, Any], name: str = "the configuration") -> Config:
    """Check plain data; see `load_config`."""
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{name}: {_explain(item)}" for item in error.errors())) from error


def _override(data: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) not in (2, 3) or not all(keys):
        raise ConfigError(f"--set {text!r} is not table.key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    table = data.setdefault(keys[0], {})
    tables = table if isinstance(table, list) else [table]
    for item in tables:
        if not isinstance(item, dict):
            raise ConfigError(f"--set {text!r}: {keys[0]} is not a table")
    if len(keys) == 3:
        tables = [item for item in tables if item.get("name") == keys[1]]
        if not tables:
            raise ConfigError(f"--set {text!r}: no [[{keys[0]}]] is named {keys[1]!r}")
    for item in tables:
        item[keys[-1]] = parsed


def _explain(item: Any) -> str:
    """One of pydantic's findings, in our words."""
    location = [str(part) for part in item["loc"]]
    path = ".".join(location)
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"][:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
        return f"unknown key {path}; {hint}"
    if item["type"] == "missing":
        return f"{path} is missing; it has no default"
    if item["type"] == "value_error":
        return message if not path or path in message or "views." in message else f"{path}: {message}"
    return f"{path} is {item['input']!r}; {message[0].lower()}{message[1:]}"


def _known_keys(location: Sequence[Any]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        if isinstance(part, str):
            model = _section(model, part)
    return list(model.model_fields)


def _section(model: type[BaseModel], name: str) -> type[BaseModel]:
    annotation: Any = model.model_fields[name].annotation
    inner = getattr(annotation, "__args__", (annotation,))
    return next(item for item in inner if isinstance(item, type) and issubclass(item, BaseModel))
