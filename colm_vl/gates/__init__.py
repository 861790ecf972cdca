"""When the server is asked: one file a gate.

A gate is a module of this folder with `GATE`, a subclass of `base.Gate`; its file name is what a policy calls it. Other
packages announce theirs as entry points of the group `colm_vl.gates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from colm_vl.gates.base import Gate
from colm_vl.plugins import Plugins

__all__ = ["Gate", "names", "plain", "read"]

_GATES = Plugins("colm_vl.gates", "colm_vl.gates", "gate", helpers=frozenset({"base"}))


def names() -> tuple[str, ...]:
    return _GATES.names()


def read(setting: object) -> Gate:
    """A gate as a team file writes it, by its name ("always") or as a table that begins with the name
    (`{ confidence = 0.8 }`), or as a command line does ("confidence=0.8"). Raises `ValueError` for what is none."""
    if isinstance(setting, Gate):
        return setting
    if isinstance(setting, str):
        name, _, value = setting.partition("=")
        table: Mapping[str, Any] = {name.strip(): value.strip()} if value else {}
    elif isinstance(setting, Mapping) and setting:
        table = setting
        name = str(next(iter(setting)))
    else:
        name, table = "", {}
    if name not in _GATES.names():
        raise ValueError(f"expected {', '.join(_forms())}")
    gate: type[Gate] = _GATES.module(name).GATE
    try:
        return gate.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {message}" if key else message) from None


def plain(gate: Gate) -> str | dict[str, Any]:
    """As a team file writes it."""
    if fields := gate.model_dump(mode="json"):
        return fields
    return next(name for name in _GATES.names() if _GATES.module(name).GATE is type(gate))


def _forms() -> list[str]:
    """Gates without settings by name, then the others as tables."""
    kinds = {name: _GATES.module(name).GATE for name in _GATES.names()}
    tables = [f"{{ {name} = … }}" for name, kind in kinds.items() if kind.model_fields]
    return [*(name for name, kind in kinds.items() if not kind.model_fields), *tables]
