"""Tables for a terminal, and the JSON of a table of figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table as Grid

from .benchmarks.base import Benchmark
from .items import Figure, Table
from .statistics import wilson

SMALL = 100
"""Below this many questions an interval is wider than most differences that are published."""


def seconds_each(seconds: float | None, items: int) -> str:
    return "–" if seconds is None else f"{seconds / max(items, 1):.3f}"


def catalogue(benchmarks: Iterable[Benchmark]) -> Grid:
    """Those with pictures first. Every one that is scored here has the rules official, strict and lenient."""
    grid = Grid(title="colm-vl eval run NAME …")
    for heading in ("name", "benchmark", "splits", "note"):
        grid.add_column(heading, overflow="fold")
    for one in sorted(benchmarks, key=lambda one: one.modality, reverse=True):
        note = one.note if one.modality == "vision" else f"text; {one.note}"
        grid.add_row(one.name, one.title, ", ".join(one.splits), note)
    return grid


def tables_for_people(benchmark: Benchmark, table: Table) -> Iterator[RenderableType]:
    if table.missing:
        total = len(table.scores) + len(table.missing)
        yield (
            f"[bold]Partial:[/bold] {len(table.scores)} of {total} questions have a prediction "
            f"({table.coverage:.1%}). The figures are over these, and do not compare with others."
        )
    grid = Grid(title=f"{benchmark.title}, rule {table.rule.value}")
    grid.add_column("figure")
    for heading in ("right", "asked", "accuracy", "95 % interval"):
        grid.add_column(heading, justify="right")
    for figure in table.figures:
        style = "bold" if figure.group in {"overall", "discipline"} else ""
        grid.add_row(*_cells(figure), style=style)
    yield grid
    yield "Read by: " + ", ".join(f"{how} {count}" for how, count in table.read.items())
    if table.reply_column:
        yield f"Replies: column {escape(table.reply_column)}"
    yield from map(escape, table.notes)


def _cells(figure: Figure) -> tuple[str, ...]:
    interval = wilson(figure.right, figure.asked)
    accuracy = f"{figure.points:.1f} points" if figure.points is not None else f"{figure.accuracy:.2%}"
    warning = " (few)" if figure.asked < SMALL else ""
    between = f"{interval.low:.1%} to {interval.high:.1%}{warning}"
    return (figure.name, str(figure.right), str(figure.asked), accuracy, between)


def table_as_json(table: Table) -> dict[str, Any]:
    return {
        "benchmark": table.benchmark,
        "rule": table.rule.value,
        "coverage": table.coverage,
        "missing": list(table.missing),
        "reply_column": table.reply_column,
        "read": dict(table.read),
        "notes": list(table.notes),
        "figures": [figure_as_json(figure) for figure in table.figures],
    }


def figure_as_json(figure: Figure) -> dict[str, Any]:
    interval = wilson(figure.right, figure.asked)
    return {
        "name": figure.name,
        "group": figure.group,
        "right": figure.right,
        "asked": figure.asked,
        "accuracy": figure.accuracy,
        "points": figure.points,
        "low": interval.low,
        "high": interval.high,
    }
