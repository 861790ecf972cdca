"""Documents in a terminal, without their plots."""

from __future__ import annotations

from collections.abc import Iterator

from rich import table
from rich.console import RenderableType
from rich.text import Text as Line

from .document import Document, Heading, Table, Text


def terminal_parts(document: Document) -> Iterator[RenderableType]:
    yield Line(document.title, style="bold")
    for part in document.parts:
        match part:
            case Heading(text):
                yield Line(f"\n{text}", style="bold")
            case Text(text):
                yield Line(text)
            case Table():
                yield _table(part)


def _table(part: Table) -> table.Table:
    shown = table.Table()
    for number, title in enumerate(part.head):
        shown.add_column(title, justify="right" if number else "left", no_wrap=not number)
    for number, row in enumerate(part.rows):
        shown.add_row(*map(Line, row), style="bold" if number in part.bold else None)
    return shown
