"""Checks the built site: links, anchors and files that pages refer to exist, and nothing is loaded from another host.

Findings are warnings, which `make docs` turns into an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}
_CSS_URL = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")


@dataclass(slots=True)
class Page:
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id":
                self.page.ids.add(value)
            elif (tag, name) in _LOADED:
                self.page.loaded.append(value)
            elif tag == "a" and name == "href":
                self.page.links.append(value)


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True}


def _check(app: Any, error: Exception | None) -> None:
    from sphinx.util import logging

    if error is None and app.builder.format == "html":
        for finding in findings(Path(app.outdir)):
            logging.getLogger(__name__).warning("%s", finding)


def findings(site: Path) -> list[str]:
    """What is wrong with the site in this folder, one line each."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    found: list[str] = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: loads {address} from another host" for address in page.loaded if _elsewhere(address)]
        for address in (*page.links, *page.loaded):
            if not _elsewhere(address) and (wrong := _wrong(path, address, pages)):
                found.append(f"{name}: {address}: {wrong}")
    for style in sorted(site.rglob("*.css")):
        addresses = [first or second for first, second in _CSS_URL.findall(style.read_text("utf-8"))]
        found += [f"{style.name}: loads {address} from another host" for address in addresses if _elsewhere(address)]
    return found


def _read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    return reader.page


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def _wrong(page: Path, address: str, pages: dict[Path, Page]) -> str:
    parts = urlsplit(address)
    if parts.scheme:  # data:
        return ""
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].ids:
        return "no such anchor"
    return ""
