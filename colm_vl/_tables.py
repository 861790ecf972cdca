"""Validates tables of settings. Raises `ConfigError` with a one-line message that names the file, key and value."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from colm_vl.errors import ConfigError

_Model = TypeVar("_Model", bound=BaseModel)


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def validate(model: type[_Model], data: Any, where: str, context: Any = None) -> _Model:
    """`context` is passed to the model's validators."""
    if isinstance(data, Mapping):
        refuse_unknown(data, tuple(field.alias or name for name, field in model.model_fields.items()), where)
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        given = "" if first["type"] == "missing" or _may_be_secret(model, first["input"]) else _given(first["input"])
        raise ConfigError(f"{where}: {key or 'value'}: {first['msg'].removeprefix('Value error, ')}{given}") from None


def refuse_unknown(table: Mapping[str, Any], allowed: Sequence[str], where: str, also: Sequence[str] = ()) -> None:
    known = (*also, *allowed)
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"{where}: unknown key {key!r}", hint=f"{guess}known keys: {', '.join(known)}")


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with the values of `new`. Tables in both are merged recursively."""
    both = dict(old)
    for key, value in new.items():
        before = both.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        both[key] = value
    return both


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _may_be_secret(model: type[BaseModel], value: Any) -> bool:
    """pydantic hides inputs only in the text of its error, not in `errors()`. Numbers are never secret."""
    return bool(model.model_config.get("hide_input_in_errors")) and not isinstance(value, int | float)


def _given(value: Any) -> str:
    return f" (given: {short(value)})"
