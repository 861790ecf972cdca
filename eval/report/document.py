"""A document of headings, sentences, tables and plots; as Markdown, and as one HTML file that opens offline."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; the first column names the rows, the others hold figures. `strong` are rows to stand out."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Plot:
    """A PNG; `name` is its file beside the Markdown, `told` what it shows, in words."""

    name: str
    png: bytes
    told: str


Part = Heading | Text | Grid | Plot


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
    body = "\n".join(map(_html, document.parts))
    title = escape(document.title)
    return _PAGE.format(title=title, style=_STYLE, body=body)


def _markdown(part: Part) -> str:
    match part:
        case Heading(text):
            return f"## {text}"
        case Text(text):
            return text
        case Plot(name, _, told):
            return f"![{told}]({name})"
        case Grid(head, rows, strong):
            lines = [_row(head), "|" + "---|" + "---:|" * (len(head) - 1)]
            lines += [
                _row([f"**{cell}**" if index in strong and cell else cell for cell in row])
                for index, row in enumerate(rows)
            ]
            return "\n".join(lines)


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _html(part: Part) -> str:
    match part:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Plot(_, png, told):
            data = base64.b64encode(png).decode("ascii")
            return f'<img alt="{escape(told)}" src="data:image/png;base64,{data}">'
        case Grid(head, rows, strong):
            top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
            body = "\n".join(_html_row(row, index in strong) for index, row in enumerate(rows))
            return (
                f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead>'
                f"<tbody>{body}</tbody></table></div>"
            )


def _html_row(cells: tuple[str, ...], strong: bool) -> str:
    first, *rest = (escape(cell) for cell in cells)
    others = "".join(f"<td>{cell}</td>" for cell in rest)
    return f'<tr{" class=strong" if strong else ""}><th scope="row">{first}</th>{others}</tr>'


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
img { width: 100%; max-width: 44rem; height: auto; background: #fff; border-radius: 6px; margin: .75rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: Canvas;
  min-width: 7rem; max-width: 42vw; white-space: normal; }
thead th { background: var(--soft); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: normal; } .strong th, .strong td { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
