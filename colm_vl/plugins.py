"""Things that are added as one file: found by name in a package of ours, or announced by another package.

Other packages announce a module as an entry point of the group. Where two bear one name, ours counts.
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
    """The modules of one kind.

    `package` and the entry-point `group` are where they are found, `kind` is what messages call them. Not counted are
    modules of the package whose names begin with an underscore, and its `helpers`.
    """

    package: str
    group: str
    kind: str
    helpers: frozenset[str] = field(default=frozenset())

    def names(self) -> tuple[str, ...]:
        """All known names, sorted. Nothing is imported to find them."""
        return tuple(sorted({*self._own(), *self._announced()}))

    def module(self, name: str) -> ModuleType:
        """Import the module of this name. Raises `ConfigError` for a name that nobody bears."""
        if name in self._own():
            return importlib.import_module(f"{self.package}.{name}")
        if entry := self._announced().get(name):
            try:
                loaded: ModuleType = entry.load()
            except Exception as error:  # whatever another package does when it is imported
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


# Both read folders, the second those of all installed packages: too much for every question.


@lru_cache(maxsize=64)
def _modules(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(module.name for module in pkgutil.iter_modules(folders))


@lru_cache(maxsize=64)
def _entries(find: Callable[..., Iterable[EntryPoint]], group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """By name; not to be changed. `path` is where they are looked for."""
    return {entry.name: entry for entry in find(group=group)}
