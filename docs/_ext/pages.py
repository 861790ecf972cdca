"""Pages whose text is elsewhere: files in the root of the repository, and the generated reference of the command line.

Such a page in docs/ holds a pointer for readers of the repository, and is replaced when the site is built. Links to
files of the repository lead to the pages that have their text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import reference

ROOT = Path(__file__).parents[2]
FILES = {
    "results": "BENCHMARKS.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "pocket-team": "colm_vl/pocket/MODEL_CARD.md",
    "examples": "examples/README.md",
}
"""Files by the page that has their text."""
_PAGES = {file: f"docs/{page}.md" for page, file in FILES.items()} | {"README.md": "docs/index.md"}
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_COMMANDS = "<!-- the commands -->"
_FURTHER = "further pages"
"""A line in a table of contents. It stands for the pages that no table of contents lists."""


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True}


def read(app: Any, page: str, source: list[str]) -> None:
    file = FILES.get(page, f"docs/{page}.md")
    text = (ROOT / file).read_text("utf-8") if page in FILES else source[0]
    if page in FILES:
        app.env.note_dependency(str(ROOT / file))
    if page == app.config.root_doc:
        text = text.replace(_FURTHER, "\n".join(further_pages(text, app.env.found_docs)))
    if _COMMANDS in text:
        text = text.replace(_COMMANDS, reference.command_line())
    source[0] = with_links(text, PurePosixPath(file))


def further_pages(index: str, pages: Iterable[str]) -> list[str]:
    listed = {line.rstrip(">").rpartition("<")[2].strip() for line in index.splitlines()}
    return sorted(set(pages) - listed - {"index"})


def with_links(text: str, file: PurePosixPath) -> str:
    """The text of a file of the repository, with its links relative to docs/. A link to a file that is not part of the
    site becomes its name."""

    def link(match: re.Match[str]) -> str:
        target = _normal(file.parent / match[2])
        target = _PAGES.get(target, target)
        inside = PurePosixPath(target)
        if inside.parts[:1] == ("docs",):
            return f"{match[1]}{inside.relative_to('docs')}{match[3]}"
        return f"{match[1]}../{target})"

    text = _LINK.sub(link, text)
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)\s]+\)", r"\1", text)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts)
