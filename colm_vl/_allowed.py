"""Describes in words which values a setting takes, from its field in a pydantic model."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from colm_vl.gates import Gate
from colm_vl.prompts import Profile

_WORDS = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Gate: "name or table",
    Profile: "name or path",
}


def allowed(field: FieldInfo) -> str:
    """Such as "integer from 1 to 10". Names the type alone if the field has validators of its own."""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not NoneType]
    return " or ".join(_kind(kind) for kind in kinds) + _bounds(field, kinds)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _kind(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        *first, last = (str(value) for value in get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        return "list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "table"
    return _WORDS[kind]


def _bounds(field: FieldInfo, kinds: list[Any]) -> str:
    limits: dict[str, Any] = {}
    for constraint in field.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if hasattr(constraint, name):
                limits[name] = getattr(constraint, name)
    if not limits or not {int, float} & set(kinds):
        return ""
    if limits.keys() == {"ge", "le"}:
        return f" from {limits['ge']:g} to {limits['le']:g}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " " + ", ".join(f"{words[name]} {limit:g}" for name, limit in limits.items())
