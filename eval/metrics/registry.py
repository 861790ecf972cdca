"""Finds metrics by name: the modules of this folder, entry points of `colm_vl.metrics`, or `module:function`."""

from __future__ import annotations

import importlib

from colm_vl.errors import ConfigError, InputError
from colm_vl.plugins import Plugins

from .base import Gold, GradingMetric

_MODULES = Plugins(__package__, "colm_vl.metrics", "metric", helpers=frozenset({"base", "registry"}))
_ANNOTATORS = 10


def names() -> tuple[str, ...]:
    return _MODULES.names()


def find(name: str) -> GradingMetric:
    """Raises `ConfigError` for an unknown metric, and for a module or function that cannot be used."""
    if ":" in name:
        return _of_function(name)
    metric = getattr(_MODULES.module(name), "METRIC", None)
    if not isinstance(metric, GradingMetric):
        raise ConfigError(f"metric module {name!r} declares no METRIC", hint="a GradingMetric")
    return metric


def default(gold: Gold) -> str:
    """The metric for a question without a chosen one."""
    if gold.choices:
        return "choice"
    if len(gold.accepted) == _ANNOTATORS:
        return "vqa"
    return "numeric" if gold.number else "exact"


def _of_function(name: str) -> GradingMetric:
    """A function that takes the reply and the list of accepted answers, and returns a grade from 0 to 1."""
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(f"metric {name!r} cannot be imported: {error}", hint="run from its folder") from None
    if not callable(function):
        raise ConfigError(f"metric {name!r}: {module} has no function {attribute!r}", hint="module:function")

    def grade(reply: str, gold: Gold) -> float:
        value = function(reply, list(gold.accepted))
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"metric {name!r} returned {value!r}", hint="it must return a number from 0 to 1")
        return float(value)

    return GradingMetric(grade, "your own function", name)
