"""Writes the settings table of docs/operations.md from the settings classes; with `--check` it only compares.

A setting is described where it is declared: by its type, its bounds, its default and the docstring below it.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from kit.settings import Settings
from kit.targets import TARGETS

PAGE = Path(__file__).with_name("operations.md")
BEGIN = "<!-- settings: written by `make docs` -->"
END = "<!-- end of settings -->"
_UNSET = "required"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    variable: str
    kind: str
    default: str
    meaning: str


def settings_class(target: str) -> type[Settings]:
    """Returns the settings class of a target: the one that its settings module declares."""
    module = import_module(f"{TARGETS[target].module}.settings")
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Settings) and value.__module__ == module.__name__]
    if len(found) != 1:
        raise LookupError(f"{module.__name__} declares {len(found)} settings classes, not one")
    return found[0]


def list_settings(model: type[BaseModel], prefix: str = "ELIS_") -> Iterator[Setting]:
    """Yields every setting of a model in order of declaration; a nested model yields its own, joined by `__`."""
    meanings = _read_docstrings(model)
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        kind = field.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield from list_settings(kind, f"{variable}__")
        else:
            yield Setting(variable, _describe_kind(field), _describe_default(field), meanings.get(name, ""))


def render_table() -> str:
    """Returns the Markdown of all settings: the shared ones, then those of each target."""
    shared = list(list_settings(Settings))
    sections = [_render_section("Every target", shared)]
    known = {setting.variable: setting for setting in shared}
    for target in TARGETS:
        own = [setting for setting in list_settings(settings_class(target)) if known.get(setting.variable) != setting]
        if own:
            sections.append(_render_section(target, own))
    return "\n".join(sections)


def write_page(check: bool) -> bool:
    """Puts the table into the page; returns whether the page had it already. With `check` it stays untouched."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}\n\n{render_table()}\n{END}{after}"
    if fresh != page and not check:
        PAGE.write_text(fresh)
    return fresh == page


def _render_section(title: str, settings: list[Setting]) -> str:
    rows = [f"| `{row.variable}` | {row.kind} | {row.default} | {row.meaning} |".replace("|  |", "| |") for row in settings]
    return "\n".join([f"#### {title}", "", "| variable | value | default | meaning |", "|---|---|---|---|", *rows, ""])


def _describe_kind(field: FieldInfo) -> str:
    kind: Any = field.annotation
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", timedelta: "duration", Path: "path", SecretStr: "secret"}
    text = names.get(kind) or ("JSON list" if get_origin(kind) in (list, tuple) else " or ".join(str(arg) for arg in get_args(kind)) or kind.__name__)
    return ", ".join([text, *_describe_bounds(field)])


def _describe_bounds(field: FieldInfo) -> list[str]:
    phrases = {"min_length": "at least {} characters", "max_length": "at most {} characters", "ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
    bounds = {name: value for constraint in field.metadata for name in phrases if (value := getattr(constraint, name, None)) is not None}
    if bounds.get("min_length", -1) == bounds.get("max_length"):
        return [f"{bounds['min_length']} characters"]
    return [phrases[name].format(_to_text(value)) for name, value in bounds.items()]


def _describe_default(field: FieldInfo) -> str:
    if field.is_required():
        return _UNSET
    if field.default_factory is not None:
        return "made at each start"
    text = _to_text(field.default)
    return f"`{text}`" if text else "empty"


def _to_text(value: Any) -> str:
    """Returns a value as the environment would hold it: durations as ISO 8601, lists as JSON."""
    if isinstance(value, str):
        return value
    content = TypeAdapter(type(value)).dump_python(value, mode="json")
    return content if isinstance(content, str) else json.dumps(content)


def _read_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Returns the docstring below each field, of the model and of what it extends."""
    found: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        if not issubclass(ancestor, BaseModel) or ancestor.__module__.startswith("pydantic"):
            continue
        body = ast.parse(dedent(inspect.getsource(ancestor))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, following in pairwise(statements):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant) and isinstance(following.value.value, str)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                found[field.target.id] = " ".join(inspect.cleandoc(ast.literal_eval(following.value)).split())  # type: ignore[attr-defined]
    return found


def main(arguments: list[str]) -> int:
    """Returns the exit status: 1 when `--check` finds the page out of date."""
    check = "--check" in arguments
    if not write_page(check) and check:
        sys.stderr.write("the settings table of docs/operations.md is out of date: run make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
