"""Families of models: each turns conversations into the inputs of its models.

A family is a module in this folder that defines `MODEL_TYPES`, the supported values of `model_type` in a checkpoint's
config.json, and `load(config, source, budget)`. Other packages can register such modules as entry points of the group
`processors.families`; if both support a type, the module in this folder is used. All other types use `generic`, and
models that take no pictures use `text`.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import chain
from types import ModuleType
from typing import Any

from processors.errors import FamilyError
from processors.families.base import Budget, Conversation, Family, Source

__all__ = ["Budget", "Conversation", "Family", "FamilyError", "Source", "load"]

logger = logging.getLogger(__name__)

_SHARED = "base"
_GROUP = "processors.families"


def load(config: Any, source: Source, budget: Budget, *, sees: bool) -> Family:
    """The family for a checkpoint's `config` (of transformers). `sees`: whether the model takes pictures.

    Raises `FamilyError`, and the exceptions of transformers for missing or unreadable files.
    """
    module = _module_for(config.model_type, sees)
    family: Family = module.load(config, source, budget)
    return family


def _module_for(model_type: str, sees: bool) -> ModuleType:
    if not sees:
        return importlib.import_module(f"{__name__}.text")
    for module in chain(_own(), _announced()):
        if model_type in getattr(module, "MODEL_TYPES", ()):
            return module
    return importlib.import_module(f"{__name__}.generic")


def _own() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(__path__):
        if found.name != _SHARED:
            yield importlib.import_module(f"{__name__}.{found.name}")


def _announced() -> Iterator[ModuleType]:
    for entry in entry_points(group=_GROUP):
        try:
            yield entry.load()
        except Exception as error:  # importing another package's module can raise anything
            logger.warning("family %r cannot be imported from %s: %r", entry.name, entry.value, error)
