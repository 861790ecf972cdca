"""Finds formats by name: the modules of this folder, or entry points of `colm_vl.exchange`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from colm_vl.errors import ConfigError
from colm_vl.plugins import Plugins

from .base import Format

_MODULES = Plugins(
    __package__,
    "colm_vl.exchange",
    "format",
    helpers=frozenset({"base", "export", "matching", "registry"}),
)


def names() -> tuple[str, ...]:
    """With hyphens: `lmms-eval` is the module `lmms_eval`."""
    return tuple(name.replace("_", "-") for name in _MODULES.names())


def find(name: str) -> Format:
    """Raises `ConfigError` for an unknown format, and for a module that declares none."""
    if name not in names():
        raise ConfigError(f"unknown format {name!r}", hint=f"one of: {', '.join(names())}")
    found = getattr(_MODULES.module(name.replace("-", "_")), "FORMAT", None)
    if not isinstance(found, Format):
        raise ConfigError(f"format module {name!r} declares no FORMAT", hint="an instance of a subclass of Format")
    return found


def of(path: Path) -> Format | None:
    """The format of a file, if one recognizes it."""
    return next((found for found in _all() if path.is_file() and found.recognizes(path)), None)


def _all() -> Iterator[Format]:
    return map(find, names())
