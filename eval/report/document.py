"""Documents of headings, paragraphs, tables and plots, written as Markdown or as one self-contained HTML file."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from colm_vl.extras import require

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names the rows, the others hold numbers. `bold` holds the indexes of rows in bold."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Plot:
    """A PNG. `name` is its file name beside the Markdown, `alt` describes it in words."""

    name: str
    png: bytes
    alt: str

    @property
    def base64(self) -> str:
        return b64encode(self.png).decode("ascii")


Part = Heading | Text | Table | Plot


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
    for kind in (Heading, Table, Plot):
        environment.tests[kind.__name__.lower()] = partial(_is_a, kind)
    page: str = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(document=document)
    return page


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
        case Table(head, rows, bold):
            lines = [_row(head), "|" + "---|" + "---:|" * (len(head) - 1)]
            lines += [
                _row([f"**{cell}**" if index in bold and cell else cell for cell in row])
                for index, row in enumerate(rows)
            ]
            return "\n".join(lines)


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
