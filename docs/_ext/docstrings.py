"""Shows the docstrings of this project as their authors meant them: indented blocks are code, and lines such as
`max_bytes: maximum size` describe arguments."""

from __future__ import annotations

import re
from typing import Any

_OF_THE_TYPE = ("str(object", "Represent a PEP 604")
_ARGUMENT = re.compile(r"([a-z_]+): (\S.*)")


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}


def process(app: Any, kind: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """A type alias without a docstring would have that of its class."""
    lines[:] = [] if kind == "data" and lines and lines[0].startswith(_OF_THE_TYPE) else restructured(lines)


def signature(
    app: Any, kind: str, name: str, of: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Signatures of dataclasses contain `<factory>`, which Sphinx cannot parse."""
    return arguments and arguments.replace("<factory>", "..."), returned


def restructured(lines: list[str]) -> list[str]:
    shown: list[str] = []
    inside = ""
    for line in lines:
        starts = not shown or not shown[-1].strip()
        if starts and line.startswith("    ") and inside != "code":
            inside = "code"
            shown += [".. code-block:: text" if "├──" in "".join(lines) else ".. code-block:: python", ""]
        elif line.strip() and not line.startswith(" "):
            argument = _ARGUMENT.fullmatch(line)
            if argument and (starts or inside == "arguments"):
                inside = "arguments"
                line = f"- `{argument[1]}`: {argument[2]}"
            elif inside == "arguments" and not starts:
                line = f"  {line}"
            else:
                inside = ""
        elif inside == "arguments" and line.strip():
            line = f"  {line.strip()}"
        shown.append(line)
    return shown
