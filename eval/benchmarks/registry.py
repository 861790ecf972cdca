"""Finds benchmarks by name: the modules of this folder, and those that other packages announce.

A benchmark is a module with `BENCHMARKS`, a tuple of instances of subclasses of `Benchmark`. Other packages announce
theirs as entry points of the group `colm_vl.benchmarks`. Of two benchmarks with one name, that of this folder counts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import ModuleType

from colm_vl.errors import ConfigError, InputError
from colm_vl.plugins import Plugins

from .base import Benchmark

logger = logging.getLogger(__name__)

_MODULES = Plugins(
    __package__,
    "colm_vl.benchmarks",
    "benchmark",
    helpers=frozenset({"base", "judged", "multiple_choice", "registry", "short_answer"}),
)


def known() -> Mapping[str, Benchmark]:
    """All benchmarks by name. One of another package that cannot be loaded is left out, with a warning."""
    modules: list[tuple[str, ModuleType]] = []
    found: dict[str, Benchmark] = {}
    for name in _MODULES.names():
        try:
            modules.append((name, _MODULES.module(name)))
        except ConfigError as error:
            logger.warning("%s", error)
    for name, module in sorted(modules, key=lambda one: one[1].__package__ != __package__):
        for benchmark in _declared(name, module):
            found.setdefault(benchmark.name, benchmark)
    return found


def find(name: str) -> Benchmark:
    """Raises `InputError` for an unknown name, `ConfigError` for a module of this name that cannot be loaded."""
    benchmarks = known()
    if name in benchmarks:
        return benchmarks[name]
    if name in _MODULES.names():
        _MODULES.module(name)
    raise InputError(f"unknown benchmark {name!r}", hint=f"one of: {', '.join(benchmarks)}")


def _declared(name: str, module: ModuleType) -> tuple[Benchmark, ...]:
    declared = getattr(module, "BENCHMARKS", None)
    if not isinstance(declared, tuple) or not all(isinstance(one, Benchmark) for one in declared):
        logger.warning("benchmark module %r declares no BENCHMARKS, a tuple of Benchmark instances", name)
        return ()
    return declared
