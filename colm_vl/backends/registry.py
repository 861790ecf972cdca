"""From a backend's name to the backend, importing it only then.

A backend is a module with `Options` (a subclass of `base.Options`) and `connect`, which takes them. The public modules
of this folder are backends, and so are the modules that other packages announce as entry points of the group
`colm_vl.backends`. Where two bear one name, the one of this folder counts.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import cast

from colm_vl import backends
from colm_vl.backends.base import Backend, Options
from colm_vl.errors import ConfigError
from colm_vl.extras import require

__all__ = ["connect", "names", "options_class", "require"]

GROUP = "colm_vl.backends"
_NOT_BACKENDS = frozenset({"base", "registry"})


def names() -> tuple[str, ...]:
    """All known backends, sorted. Nothing is imported to find them."""
    return tuple(sorted({*_own(), *_announced()}))


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


def _own() -> tuple[str, ...]:
    found = (module.name for module in pkgutil.iter_modules(backends.__path__))
    return tuple(name for name in found if not name.startswith("_") and name not in _NOT_BACKENDS)


def _announced() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _module(name: str) -> ModuleType:
    if name in _own():
        module = importlib.import_module(f"{backends.__name__}.{name}")
    elif entry := _announced().get(name):
        module = entry.load()
    else:
        raise ConfigError(f"unknown backend {name!r}", hint=f"one of: {', '.join(names())}")
    if not callable(getattr(module, "connect", None)):
        raise ConfigError(f"backend {name!r} has no connect", hint="define connect(options) in it")
    return module


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
