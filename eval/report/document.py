"""Documents of headings, paragraphs, tables and plots, written as Markdown, as one self-contained HTML file, or for a
terminal."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text as RichText

from colm_vl import viewer
from colm_vl.extras import require


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names the rows, the others hold numbers, or texts if `texts`. `bold` holds the indexes of rows
    in bold."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[int] = frozenset()
    texts: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """A PNG. `name` is its file name beside the Markdown, `alt` describes it in words."""

    name: str
    png: bytes
    alt: str

    @property
    def base64(self) -> str:
        return b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Questions to look through, as JSON values for `viewer.js`. HTML only."""

    id: str
    data: Mapping[str, Any]

    @property
    def json(self) -> str:
        """For a `script` element."""
        return viewer.as_json(self.data)


Part = Heading | Text | Table | Plot | Viewer


@dataclass(frozen=True, slots=True)
class Document:
    title: str
    parts: tuple[Part, ...]

    @property
    def plots(self) -> tuple[Plot, ...]:
        return tuple(part for part in self.parts if isinstance(part, Plot))


def to_markdown(document: Document) -> str:
    return "\n\n".join([f"# {document.title}", *map(_markdown, document.parts)]) + "\n"


def to_html(document: Document) -> str:
    jinja2 = require("jinja2", "eval")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    for kind in (Heading, Table, Plot, Viewer):
        environment.tests[kind.__name__.lower()] = partial(_is_a, kind)
    viewed = any(isinstance(part, Viewer) for part in document.parts)
    style, script = (file.read_text(encoding="utf-8") if viewed else "" for file in (viewer.STYLE, viewer.SCRIPT))
    # No other script runs, whatever a model wrote, and nothing is fetched from the network.
    digest = b64encode(sha256(script.encode()).digest()).decode("ascii")
    page: str = environment.from_string(_beside("report.html.jinja")).render(
        document=document, style=style, script=script, script_source=f"'sha256-{digest}'" if viewed else "'none'"
    )
    return page


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def to_terminal(document: Document) -> Iterator[RenderableType]:
    """Without plots and questions to look through."""
    yield RichText(document.title, style="bold")
    for part in document.parts:
        match part:
            case Heading(text):
                yield RichText(f"\n{text}", style="bold")
            case Text(text):
                yield RichText(text)
            case Table():
                yield _terminal_table(part)
            case Plot() | Viewer():
                pass


def _terminal_table(table: Table) -> RichTable:
    """Headings of numbers are wrapped to the width of the numbers, so that a table fits 80 columns."""
    shown = RichTable(box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    for place, heading in enumerate(table.head):
        number = place > 0 and not table.texts
        widest = max(map(len, [*heading.split(), *(row[place] for row in table.rows)]), default=0)
        shown.add_column(
            escape(heading),
            justify="right" if number else "left",
            overflow="fold",
            max_width=widest if number else None,
        )
    for index, row in enumerate(table.rows):
        shown.add_row(*map(escape, row), style="bold" if index in table.bold else "")
    return shown


def _is_a(kind: type, part: Part) -> bool:
    return isinstance(part, kind)


def _markdown(part: Part) -> str:
    match part:
        case Heading(text):
            return f"## {text}"
        case Text(text):
            return text
        case Plot(name, _, alt):
            return f"![{alt}]({name})"
        case Viewer(_, data):
            return f"The HTML report shows {len(data['items'])} questions with all replies."
        case Table(head, rows, bold, texts):
            lines = [_row(head), "|---|" + ("---|" if texts else "---:|") * (len(head) - 1)]
            lines += [
                _row([f"**{cell}**" if index in bold and cell else cell for cell in row])
                for index, row in enumerate(rows)
            ]
            return "\n".join(lines)


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
