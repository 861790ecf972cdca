"""The keys of a policy, for `--help` and docs/policies.md, and the parser of `--set key=value`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from colm_vl._allowed import allowed
from colm_vl.errors import ConfigError
from colm_vl.gates import Gate, plain
from colm_vl.prompts import Profile
from colm_vl.team import Policy
from colm_vl.types import Stage

_HINT = "such as --set rounds=2 or --set timeouts.draft=20; --help lists the keys"


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """`name` is a dotted key in which STAGE stands for any of `stages`. `values` says which values it takes."""

    name: str
    about: str
    values: str
    default: str
    stages: Sequence[str] = ()


def policy_keys() -> Sequence[PolicyKey]:
    grouped: dict[tuple[str, ...], dict[str, Any]] = {}
    about: dict[tuple[str, ...], str] = {}
    values: dict[tuple[str, ...], str] = {}
    for path, field, description, default in _leaves(Policy()):
        stage = path[1] if len(path) > 1 and path[1] in get_args(Stage) else ""
        key = (path[0], "STAGE", *path[2:]) if stage else path
        grouped.setdefault(key, {})[stage] = default
        about.setdefault(key, description)
        values.setdefault(key, allowed(field))
    return [
        PolicyKey(".".join(key), about[key], values[key], _default(defaults), [stage for stage in defaults if stage])
        for key, defaults in grouped.items()
    ]


def as_markdown() -> str:
    lines = ["| key | what it does | values | default |", "| --- | --- | --- | --- |"]
    rows = (f"| `{key.name}` | {key.about} | {key.values} | {key.default} |" for key in policy_keys())
    return "\n".join([*lines, *rows])


def as_help() -> str:
    """One line for each key, in rich's markup."""
    keys = policy_keys()
    lines = [f"[bold]{key.name}[/bold]  {key.about} (default: {key.default})" for key in keys]
    stages = next(key.stages for key in keys if key.stages)
    head = r"Keys for --set and for the table \[policy] of a team file. STAGE is one of " + ", ".join(stages) + ":"
    return "\n".join([head, *lines])


def read_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Parse settings such as `["timeouts.draft=20", "gate=disagreement"]` into changes of a policy. Values are TOML;
    invalid TOML is a string.

    Raises `ConfigError` if a setting has no key, or if a key is given twice.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        path = [part.strip() for part in key.split(".")]
        if not equals or not all(path):
            raise ConfigError(f"--set {setting!r}: expected key=value", hint=_HINT)
        table = changes
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {setting!r}: {part} is given a value already", hint=_HINT)
        if path[-1] in table:
            raise ConfigError(f"--set {setting!r}: {key.strip()} is given twice", hint="give it once")
        table[path[-1]] = _value(value.strip())
    return changes


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _leaves(model: BaseModel, *path: str) -> Iterator[tuple[tuple[str, ...], FieldInfo, str, Any]]:
    """Yields path, field, description and default of each key."""
    for name, field in type(model).model_fields.items():
        value, about = getattr(model, name), field.description or ""
        table = next((kind for kind in get_args(field.annotation) if _is_table(kind)), None)
        if isinstance(value, Gate):
            yield (*path, name), field, about, plain(value)
        elif isinstance(value, Profile):
            yield (*path, name), field, about, value.name
        elif isinstance(value, BaseModel):
            yield from _leaves(value, *path, name)
        elif path and value is None:  # the stage has the same values as the one named in its description
            as_other = about.removesuffix(" if not set")
            for inner, kind in (table.model_fields if table else {"": field}).items():
                yield (*path, name, *filter(None, [inner])), kind, about, as_other
        else:
            yield (*path, name), field, about, value


def _is_table(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _default(by_stage: Mapping[str, Any]) -> str:
    """The most frequent default, followed by the stages that have another."""
    values = list(by_stage.values())
    usual = max(values, key=values.count)
    others = [f"{stage}: {_shown(value)}" for stage, value in by_stage.items() if value != usual]
    return f"{_shown(usual)} ({', '.join(others)})" if others else _shown(usual)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value)
