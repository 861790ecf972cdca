"""Figures of a benchmark, and the section of BENCHMARKS.md that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HEADING = "## Speed"
_INTRODUCTION = (
    "What the machinery itself costs, measured beside stand-ins for models: stub endpoints with a fixed latency on the "
    "same machine, and tiny models in process. Each row says how; the command writes it again."
)
_HEADER = "| what | measured | wanted | how | command |\n| --- | --- | --- | --- | --- |"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value with what was wanted of it, both as they are shown."""

    name: str
    value: str
    wanted: str
    met: bool
    how: str

    def row(self, command: str) -> str:
        mark = "" if self.met else " **(missed)**"
        return f"| {self.name} | {self.value}{mark} | {self.wanted} | {self.how} | `{command}` |"


def write(path: Path, figures: Iterable[Figure], command: str, machine: str) -> None:
    """Put the figures into the section on speed, in place of the rows of the same names; the rest stays."""
    text = path.read_text("utf-8") if path.exists() else "# Benchmarks\n"
    found = re.search(rf"^{HEADING}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    before, section, after = (text[: found.start()], found[1], text[found.end() :]) if found else (text, "", "")
    rows = {row.split("|")[1].strip(): row for row in section.splitlines() if _is_row(row)}
    rows |= {figure.name: figure.row(command) for figure in figures}
    table = "\n".join((_HEADER, *rows.values()))
    path.write_text(
        f"{before.rstrip()}\n\n{HEADING}\n\n{_INTRODUCTION}\n\n{table}\n\nLast measured on {machine}.\n"
        + (f"\n{after}" if after else ""),
        "utf-8",
    )


def _is_row(line: str) -> bool:
    return line.startswith("| ") and not line.startswith(("| what |", "| --- |"))
