"""Imports of optional packages, and of the project's own packages `eval` and `demos`."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from colm_vl.errors import MissingPackage


def require(package: str, extra: str) -> ModuleType:
    """Import a package of the extra `extra`. Raises `MissingPackage` with the `pip install` line as its hint."""
    hint = f"pip install 'colm-vl[{extra}]'"
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"package {error.name or package!r} is not installed", hint=hint) from None
    except ImportError as error:
        raise MissingPackage(f"package {package!r} is installed and cannot be imported: {error}", hint=hint) from error


def part(module: str) -> ModuleType:
    """Import a module of `eval` or `demos`, such as "eval.cli", as a submodule of `colm_vl`: `colm_vl.eval.cli`.

    In a wheel these packages are inside `colm_vl`, because other distributions use their names. In a checkout they are
    beside it, so the root of the checkout is added to the search path of `colm_vl`.
    """
    top = module.partition(".")[0]
    if not find_spec(f"colm_vl.{top}"):
        importlib.import_module("colm_vl").__path__.append(str(Path(__file__).parents[1]))
    return importlib.import_module(f"colm_vl.{module}")
