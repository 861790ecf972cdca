"""Gates: they decide whether the server is asked.

A gate is a module in this folder that defines `GATE`, a subclass of `base.Gate`. Policies refer to it by its file name.
Other packages can register gates as entry points of the group `colm_vl.gates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError, ValidationInfo

from colm_vl.errors import ConfigError
from colm_vl.gates.base import Gate
from colm_vl.plugins import Plugins

__all__ = ["Gate", "default", "names", "plain", "read", "reads_files"]

_GATES = Plugins("colm_vl.gates", "colm_vl.gates", "gate", helpers=frozenset({"base", "certificate"}))


def names() -> tuple[str, ...]:
    return _GATES.names()


def read(setting: object, info: ValidationInfo) -> Gate:
    """Parse a policy's gate: a name ("always"), a table whose first key is the name (`{ confidence = 0.8 }`), or the
    form of the command line ("confidence=0.8"). The context of a validation is the folder that paths are relative to.

    Raises `ValueError` if it is not valid.
    """
    if isinstance(setting, Gate):
        return setting
    name, table = _named(setting)
    if name not in _GATES.names():
        raise ValueError(f"expected {', '.join(_forms())}")
    gate = _load(name)
    try:
        return gate.model_validate(dict(table), context=info.context)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {message}" if key else message) from None


def reads_files(setting: object) -> bool:
    """Whether a policy's gate names files, without reading them."""
    name, _ = _named(setting)
    return name in _GATES.names() and _load(name).reads_files


def default() -> Gate:
    return _load("always")()


def plain(gate: Gate) -> str | dict[str, Any]:
    """The gate as it is written in a team file."""
    if fields := gate.model_dump(mode="json"):
        return fields
    return gate.name


def _named(setting: object) -> tuple[str, Mapping[str, Any]]:
    """The name of a gate and its settings."""
    if isinstance(setting, str):
        name, _, value = setting.partition("=")
        return name.strip(), {name.strip(): value.strip()} if value else {}
    if isinstance(setting, Mapping) and setting:
        return str(next(iter(setting))), setting
    return "", {}


def _load(name: str) -> type[Gate]:
    gate = getattr(_GATES.module(name), "GATE", None)
    if not (isinstance(gate, type) and issubclass(gate, Gate)):
        raise ConfigError(f"gate {name!r} has no GATE", hint="define one, a subclass of colm_vl.gates.Gate, in it")
    return gate


def _forms() -> list[str]:
    """The forms in which gates are written: those without settings by name, then the others as tables. Gates of other
    packages that cannot be loaded are left out."""
    kinds: dict[str, type[Gate]] = {}
    for name in _GATES.names():
        with suppress(ConfigError):
            kinds[name] = _load(name)
    tables = [f"{{ {name} = … }}" for name, kind in kinds.items() if kind.model_fields]
    return [*(name for name, kind in kinds.items() if not kind.model_fields), *tables]
