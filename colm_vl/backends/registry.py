"""From a backend's name to the backend, importing it only then.

A backend is a module with `Options` (a subclass of `base.Options`) and `connect`, which takes them. The public modules
of this folder are backends, and so are the modules that other packages announce as entry points of the group
`colm_vl.backends`. Where two bear one name, the one of this folder counts.
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
    """All known backends, sorted. Nothing is imported to find them."""
    return _BACKENDS.names()


def options_class(name: str) -> type[Options]:
    """What a member of this backend may set. Raises ConfigError for an unknown backend, MissingPackage if an extra is
    not installed."""
    options = getattr(_module(name), "Options", None)
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise ConfigError(
            f"backend {name!r} has no Options", hint="define a class Options(colm_vl.backends.base.Options) in it"
        )
    return options


def connect(name: str, options: Options) -> Backend:
    """A backend made of its own options, an instance of `options_class(name)`. Loading a model or calling an endpoint
    is left for later. Raises ConfigError, or MissingPackage if an extra is not installed."""
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
