"""Figures of a benchmark, and the section of BENCHMARKS.md that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADING = "## Speed"
_INTRODUCTION = (
    "The overhead of colm-vl itself, measured without real models: with stub endpoints of a fixed latency on the same "
    "machine, and with tiny local models. Run the command of a row with `--write` to measure it again."
)
_TITLES = ("what", "measured", "target", "how", "command", "measured on")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value and its target, as they are displayed. `met` is None if nothing could be measured."""

    name: str
    value: str
    target: str
    met: bool | None
    how: str

    @property
    def missed(self) -> bool:
        return self.met is False

    def row(self, command: str, machine: str) -> str:
        mark = " **(missed)**" if self.missed else ""
        return _row([self.name, f"{self.value}{mark}", self.target, self.how, f"`{command}`", machine])


def write(path: Path, figures: Iterable[Figure], command: str, machine: str) -> None:
    """Write the figures into the section on speed. Rows of the same names are replaced, everything else is kept.

    `machine` describes where and when the figures were measured.
    """
    text = path.read_text("utf-8") if path.exists() else "# Benchmarks\n"
    found = re.search(rf"^{HEADING}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    before, section, after = (text[: found.start()], found[1], text[found.end() :]) if found else (text, "", "")
    rows = _rows(section) | {figure.name: figure.row(command, machine) for figure in figures}
    table = "\n".join((_row(_TITLES), _row(["---"] * len(_TITLES)), *rows.values()))
    path.write_text(
        f"{before.rstrip()}\n\n{HEADING}\n\n{_INTRODUCTION}\n\n{table}\n" + (f"\n{after}" if after else ""), "utf-8"
    )


def _rows(section: str) -> dict[str, str]:
    """The rows of the table, by the name of the figure."""
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines[2:]}  # without the header


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
