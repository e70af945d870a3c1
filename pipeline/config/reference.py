"""`docs/config.md`, from the sections themselves: every key with its type, default and meaning."""

import sys
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from .config import Config
from .sections import CacheSection, Data, Render, Run, Student, Teacher, Verify, Views
from .submit import Submit

_SECTIONS: dict[str, type[BaseModel]] = {
    "[run]": Run,
    "[data]": Data,
    "[views]": Views,
    "[render]": Render,
    "[[teacher]]": Teacher,
    "[cache]": CacheSection,
    "[verify]": Verify,
    "[[student]]": Student,
    "[[submit]]": Submit,
}
_HEAD = """# Configuration

One TOML file. It is strict: an unknown key is an error that names the nearest known one. Paths are relative to the
working directory; `run.dir` and the other `dir`s may be URLs that fsspec knows. `--set table.key=value` changes a
setting on the command line; for tables that stand several times it sets every one, or, as
`--set student.NAME.key=value`, the one of that name.

This page is made by `python -m stillroom.pipeline.config.reference`.
"""


def config_page() -> str:
    """The page in Markdown."""
    assert len(_SECTIONS) == len(Config.model_fields)
    lines = [_HEAD]
    for title, section in _SECTIONS.items():
        lines += [
            f"## `{title}`",
            "",
            section.__doc__ or "",
            "",
            "| key | type | default | what |",
            "|---|---|---|---|",
        ]
        lines += [*field_rows(section), ""]
    return "\n".join(lines)


def field_rows(section: type[BaseModel]) -> list[str]:
    """Rows of a table: key, type, default, what."""
    schema = section.model_json_schema().get("properties", {})
    rows = []
    for name, field in section.model_fields.items():
        default = "**required**" if field.default is PydanticUndefined else f"`{_toml(field.default)}`"
        what = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(schema[name])} | {default} | {what} |")
    return rows


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_type(item) for item in schema["anyOf"] if item.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f'`"{item}"`' for item in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        inner = schema.get("prefixItems", [schema.get("items", {})])
        kind, _, limits = _type(inner[0]).partition(" ")
        count = f"{len(inner)} " if "prefixItems" in schema else ""
        return f"list of {count}{kind}s {limits}".rstrip()
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return " ".join([str(schema.get("type", "")), ", ".join(bounds)]).strip()


if __name__ == "__main__":
    sys.stdout.write(config_page())
