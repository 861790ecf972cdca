"""What is not always installed: packages of an extra, and the project's own parts `eval` and `demos`."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
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
    """Import a module of `eval` or `demos`, such as "eval.cli".

    A wheel has these packages inside `colm_vl`, because others on the registry bear their names. A checkout has them
    beside `colm_vl`, and they are loaded from there whatever else bears their name.
    """
    top = module.partition(".")[0]
    if find_spec(f"colm_vl.{top}"):
        return importlib.import_module(f"colm_vl.{module}")
    if top not in sys.modules:
        spec = spec_from_file_location(top, Path(__file__).parents[1] / top / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[top] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[top])
    return importlib.import_module(module)
