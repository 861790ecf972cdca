"""Plug-ins: modules found by name in a package of this project, or registered as entry points by other packages.

If both have the same name, the module of this project is used.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from colm_vl.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugins:
    """The plug-ins of one kind.

    They are found in `package` and in the entry-point `group`; `kind` is the word for them in messages. Modules of the
    package whose names begin with an underscore, and its `helpers`, are not plug-ins.
    """

    package: str
    group: str
    kind: str
    helpers: frozenset[str] = field(default=frozenset())

    def names(self) -> tuple[str, ...]:
        """All known names, sorted. No plug-in is imported."""
        return tuple(sorted({*self._own(), *self._announced()}))

    def module(self, name: str) -> ModuleType:
        """Import the plug-in called `name`. Raises `ConfigError` if there is none, or if it cannot be imported."""
        if name in self._own():
            return importlib.import_module(f"{self.package}.{name}")
        if entry := self._announced().get(name):
            try:
                loaded: ModuleType = entry.load()
            except Exception as error:  # importing another package's module can raise anything
                logger.debug("entry point %s", entry, exc_info=True)
                raise ConfigError(
                    f"{self.kind} {name!r} cannot be imported from {entry.value}: {type(error).__name__}: {error}"
                ) from None
            return loaded
        raise ConfigError(f"unknown {self.kind} {name!r}", hint=f"one of: {', '.join(self.names())}")

    def _own(self) -> tuple[str, ...]:
        found = _modules(tuple(importlib.import_module(self.package).__path__))
        return tuple(name for name in found if not name.startswith("_") and name not in self.helpers)

    def _announced(self) -> dict[str, EntryPoint]:
        return _entries(entry_points, self.group, tuple(sys.path))


# Cached because both functions read folders (`_entries` those of all installed packages), which takes too long to be
# repeated for each question.


@lru_cache(maxsize=64)
def _modules(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(folders))


@lru_cache(maxsize=64)
def _entries(find: Callable[..., Iterable[EntryPoint]], group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points by name; do not modify the result. `path` is `sys.path`, as part of the cache key."""
    return {entry.name: entry for entry in find(group=group)}
