"""Generates the reference of settings and of the command line from the code.

`python docs/_ext/reference.py` writes the tables of docs/policies.md, docs/team-file.md and docs/cli.md. The options of
all commands are added to docs/cli.md when the site is built.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from colm_vl import policies
from colm_vl._allowed import allowed
from colm_vl.backends import base, registry, scripted
from colm_vl.team import _MemberSettings

DOCS = Path(__file__).parents[1]
BEGIN, END = "<!-- generated from the code: {} -->", "<!-- end of the generated table -->"
PAGES = ("policies.md", "team-file.md", "cli.md")
OWN = ("openai", "transformers", "colm", "scripted")
"""The package's backends, in the order of the page. Those of other packages are not part of it."""


def tables() -> Mapping[str, str]:
    """The generated tables by name."""
    common = set(base.Options.model_fields)
    found = {
        "policies": policies.as_markdown(),
        "member": settings(_MemberSettings.model_fields),
        "scripted replies": settings(scripted.Reply.model_fields),
        "commands": "\n".join(["| command | what it does |", "| --- | --- |", *_commands(_root(), ["colm-vl"])]),
    }
    for name in OWN:
        fields = registry.options_class(name).model_fields
        own = {key: field for key, field in fields.items() if key not in common}
        found[name] = settings({key: fields[key] for key in fields if key in common} | own)
    return found


def settings(fields: Mapping[str, FieldInfo]) -> str:
    rows = [
        f"| `{name}` | {field.description or ''} | {allowed(field)} | {_default(field)} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| key | what it does | values | default |", "| --- | --- | --- | --- |", *rows])


def updated(page: str) -> str:
    """The page with its tables as the code has them now."""
    for name, table in tables().items():
        begin = BEGIN.format(name)
        page = re.sub(
            f"{re.escape(begin)}.*?{re.escape(END)}",
            lambda _, begin=begin, table=table: f"{begin}\n\n{table}\n\n{END}",
            page,
            flags=re.DOTALL,
        )
    return page


def command_line() -> str:
    """Markdown of all commands with their arguments and options."""
    return "\n".join(_command(_root(), ["colm-vl"]))


def _root() -> Any:
    from colm_vl.cli import app

    return typer.main.get_command(app)


def _commands(command: Any, path: list[str]) -> Iterator[str]:
    """A row for each command that can be run, with the first sentence of its help."""
    for name, subcommand in command.commands.items():
        if hasattr(subcommand, "commands"):
            yield from _commands(subcommand, [*path, name])
        else:
            first = _cell(_prose((subcommand.help or "").partition("\n\n")[0]))
            yield f"| `{' '.join([*path, name])}` | {first} |"


def _command(command: Any, path: list[str]) -> Iterator[str]:
    """`command` and its parameters are objects of the click in typer, which may be a copy of its own."""
    subcommands = getattr(command, "commands", {})
    if len(path) > 1:
        yield f"{'#' * min(len(path), 4)} {' '.join(path)}\n"
    yield _prose(command.help or "") + "\n"
    arguments = [_name(one) for one in command.params if not _is_option(one)]
    if not subcommands:
        yield f"```text\n{' '.join([*path, *arguments, '[OPTIONS]'])}\n```\n"
    parameters = [one for one in command.params if "--help" not in one.opts]
    if parameters:
        yield "| option | what it does |\n| --- | --- |"
        yield from (_parameter(one) for one in parameters)
        yield ""
    for name, subcommand in subcommands.items():
        yield from _command(subcommand, [*path, name])


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper() if not _is_option(parameter) else parameter.name


def _parameter(parameter: Any) -> str:
    if _is_option(parameter):
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        names += "" if parameter.is_flag else f" {_cell(parameter.metavar or _type(parameter))}"
    else:
        names = _cell(f"`{_name(parameter)}`")
    note = " (required)" if parameter.required and _is_option(parameter) else _shown_default(parameter)
    return f"| {names} | {_cell(_prose(parameter.help or ''))}{note} |"


def _shown_default(parameter: Any) -> str:
    default = parameter.default
    if default is None or isinstance(default, bool) or callable(default) or default in ("", (), []):
        return ""
    return f" (default: {getattr(default, 'value', default)})"


def _type(parameter: Any) -> str:
    annotation = parameter.type_descriptor.annotation
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{one.value}`" for one in annotation)
    return {int: "N", float: "X", Path: "PATH"}.get(annotation, "TEXT")


def _prose(text: str) -> str:
    """Rich's markup as Markdown. Text in bold that is a command becomes code."""
    text = re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text)
    text = text.replace("(listed below)", "([list](policies.md))")
    return text.replace(r"\[", "[").replace("\b\n", "").replace("<", "&lt;").strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return "required"
    if value is None or (isinstance(value, (Mapping, tuple)) and not value):
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, BaseModel):
        return "a table"
    return f"{value:g}" if isinstance(value, float) else f"{value}" or "empty"


def main() -> None:
    for name in PAGES:
        page = DOCS / name
        page.write_text(updated(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
