"""From conversations to a model's inputs: one file a family.

A family is a module of this folder with `MODEL_TYPES`, the values of `model_type` in the checkpoints' config.json, and
`load`, as below without `sees`. Types that no module names go to `generic` if the model takes pictures, else to `text`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from processors.errors import FamilyError
from processors.families.base import Budget, Conversation, Family, Source

__all__ = ["Budget", "Conversation", "Family", "FamilyError", "Source", "load"]

_SHARED = "base"


def load(config: Any, source: Source, budget: Budget, *, sees: bool) -> Family:
    """The family for a checkpoint's `config` (of transformers). `sees`: whether the model takes pictures.

    Raises FamilyError, and whatever transformers raises for files that are missing or unreadable.
    """
    module = _module_for(config.model_type, sees)
    family: Family = module.load(config, source, budget)
    return family


def _module_for(model_type: str, sees: bool) -> ModuleType:
    if not sees:
        return importlib.import_module(f"{__name__}.text")
    for found in pkgutil.iter_modules(__path__):
        if found.name == _SHARED:
            continue
        module = importlib.import_module(f"{__name__}.{found.name}")
        if model_type in module.MODEL_TYPES:
            return module
    return importlib.import_module(f"{__name__}.generic")
