"""What is not always installed: packages of an extra, and the project's own parts `eval` and `demos`."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from colm_vl.errors import MissingPackage


def require(package: str, extra: str) -> ModuleType:
    """Import a package that only the extra `extra` installs. Raises MissingPackage with the line that installs it."""
    hint = f"pip install 'colm-vl[{extra}]'"
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingPackage(f"package {error.name or package!r} is not installed", hint=hint) from None
    except ImportError as error:
        raise MissingPackage(f"package {package!r} is installed and cannot be imported: {error}", hint=hint) from error


def part(module: str) -> ModuleType:
    """Import a module of `eval` or `demos`, such as "eval.cli", as a part of `colm_vl`: `colm_vl.eval.cli`.

    A wheel has these packages inside `colm_vl`, because others on the registry have their names. A checkout has them
    beside `colm_vl`: its root is then added to where submodules of `colm_vl` are searched.
    """
    top = module.partition(".")[0]
    if not find_spec(f"colm_vl.{top}"):
        importlib.import_module("colm_vl").__path__.append(str(Path(__file__).parents[1]))
    return importlib.import_module(f"colm_vl.{module}")
