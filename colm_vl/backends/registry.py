"""Finds backends by name, and imports them when they are needed.

A backend is a module that defines `Options` (a subclass of `base.Options`) and `connect(options)`. The public modules
in this folder are backends, as are modules that other packages register as entry points of the group
`colm_vl.backends`. If both have the same name, the module in this folder is used.
"""

from __future__ import annotations

from types import ModuleType
from typing import cast

from colm_vl.backends.base import Backend, Options
from colm_vl.errors import ConfigError
from colm_vl.extras import require
from colm_vl.plugins import Plugins

__all__ = ["connect", "names", "options_class", "require"]

_BACKENDS = Plugins("colm_vl.backends", "colm_vl.backends", "backend", helpers=frozenset({"base", "registry"}))


def names() -> tuple[str, ...]:
    """The names of all backends, sorted. No backend is imported."""
    return _BACKENDS.names()


def options_class(name: str) -> type[Options]:
    """The `Options` of a backend. Raises `ConfigError` if the backend is unknown, and `MissingPackage` if an extra is
    not installed."""
    options = getattr(_module(name), "Options", None)
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise ConfigError(
            f"backend {name!r} has no Options", hint="define a class Options(colm_vl.backends.base.Options) in it"
        )
    return options


def connect(name: str, options: Options) -> Backend:
    """Make a backend from its options, an instance of `options_class(name)`. Models are loaded and endpoints called
    later. Raises `ConfigError`, or `MissingPackage` if an extra is not installed."""
    expected = options_class(name)
    if not isinstance(options, expected):
        raise ConfigError(f"backend {name!r} takes {_path(expected)}, got {_path(type(options))}")
    return cast("Backend", _module(name).connect(options))


def _module(name: str) -> ModuleType:
    module = _BACKENDS.module(name)
    if not callable(getattr(module, "connect", None)):
        raise ConfigError(f"backend {name!r} has no connect", hint="define connect(options) in it")
    return module


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
