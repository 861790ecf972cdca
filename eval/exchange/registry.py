"""Finds formats by name: the modules of this folder, or entry points of `colm_vl.exchange`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from colm_vl.errors import ConfigError
from colm_vl.plugins import Plugins

from .base import Format

logger = logging.getLogger(__name__)

_MODULES = Plugins(
    __package__,
    "colm_vl.exchange",
    "format",
    helpers=frozenset({"base", "export", "matching", "registry"}),
)


def names() -> tuple[str, ...]:
    """With hyphens: `lmms-eval` is the module `lmms_eval`."""
    return tuple(_modules())


def find(name: str) -> Format:
    """Raises `ConfigError` for an unknown format, and for a module that cannot be used."""
    if name not in _modules():
        raise ConfigError(f"unknown format {name!r}", hint=f"one of: {', '.join(names())}")
    found = getattr(_MODULES.module(_modules()[name]), "FORMAT", None)
    if not isinstance(found, Format):
        raise ConfigError(f"format module {name!r} declares no FORMAT", hint="an instance of a subclass of Format")
    return found


def of(path: Path) -> Format | None:
    """The format of a file, if one recognizes it. One of another package that cannot be loaded is left out, with a
    warning."""
    return next((found for found in _usable() if found.recognizes(path)), None) if path.is_file() else None


def _modules() -> dict[str, str]:
    return {name.replace("_", "-"): name for name in _MODULES.names()}


def _usable() -> Iterator[Format]:
    for name in names():
        try:
            yield find(name)
        except ConfigError as error:
            logger.warning("%s", error)
