"""Finds metrics by name: the modules of this folder, entry points of `colm_vl.metrics`, or `module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from colm_vl._tables import validate
from colm_vl.errors import ConfigError, InputError
from colm_vl.plugins import Plugins

from .base import BatchMetric, Gold, GradingMetric

_MODULES = Plugins(__package__, "colm_vl.metrics", "metric", helpers=frozenset({"base", "judging", "registry"}))
_ANNOTATORS = 10


def names() -> tuple[str, ...]:
    return _MODULES.names()


def find(name: str) -> BatchMetric:
    """A metric by its name, with settings after commas: "anls", "numeric,relative=0.01", "my_module:my_function".

    Raises `ConfigError` for an unknown metric or setting, a wrong value, and for a module or function that cannot be
    used.
    """
    if ":" in name:
        return _Function(name)
    module, *settings = name.split(",")
    metric = getattr(_MODULES.module(module), "METRIC", None)
    if not (isinstance(metric, type) and issubclass(metric, BatchMetric)):
        raise ConfigError(f"metric module {module!r} declares no METRIC", hint="a subclass of GradingMetric")
    return validate(metric, _table(module, settings), f"metric {module}")


def default(gold: Gold) -> str:
    """The metric for a question without a chosen one."""
    if gold.choices:
        return "choice"
    if len(gold.accepted) == _ANNOTATORS:
        return "vqa"
    return "numeric" if gold.number else "exact"


def _table(metric: str, settings: list[str]) -> dict[str, str]:
    table = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key in table:
            wrong = "is given twice" if equals else "has no value"
            raise ConfigError(f"metric {metric}: {key!r} {wrong}", hint=f"such as {metric},key=value")
        table[key] = value
    return table


class _Function(GradingMetric):
    """A function that takes the reply and the list of accepted answers, and returns a grade from 0 to 1."""

    note = "your own function"

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._function = _function(name)

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        try:
            value = self._function(reply, list(gold.accepted))
        except Exception as error:
            raise InputError(
                f"metric {self._name!r} raised {type(error).__name__}: {error}", hint=f"for the reply {reply[:80]!r}"
            ) from error
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"metric {self._name!r} returned {value!r}", hint="it must return a number from 0 to 1")
        return float(value)


def _function(name: str) -> Callable[[str, list[str]], Any]:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(f"metric {name!r} cannot be imported: {error}", hint="run from its folder") from None
    if not callable(function):
        raise ConfigError(f"metric {name!r}: {module} has no function {attribute!r}", hint="module:function")
    found: Callable[[str, list[str]], Any] = function
    return found
