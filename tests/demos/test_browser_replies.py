"""How replies are drawn, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from . import test_browser as pages
from .conftest import ROOT, Served

pytestmark = pages.pytestmark
browser = pages.browser
PLACE = """([image, box]) => {
  const [outer, inner] = [image, box].map((one) => document.querySelector(one).getBoundingClientRect());
  return [inner.left - outer.left, inner.top - outer.top, inner.width, inner.height].map(
    (length, place) => length / (place % 2 ? outer.height : outer.width)
  );
}"""


@pytest.mark.parametrize("width", [1360, 390])
def test_markup_changes_and_boxes_are_drawn_and_accessible(browser: Any, served: Served, width: int) -> None:
    visitor = pages.Visitor(browser, served.url, viewport={"width": width, "height": 900})
    visitor.page.set_input_files("#pictures input[type=file]", ROOT / "docs/examples/house.png")
    visitor.see("#pictures img")
    visitor.ask("Point at the way in")
    visitor.see_end()

    refined = "[aria-label='shapes: refined answer']"
    visitor.see(f"{refined} .cv-caption strong", "door")
    half = visitor.page.locator(f"{refined} math mfrac")
    upper, lower = half.locator("mn").nth(0).bounding_box(), half.locator("mn").nth(1).bounding_box()
    assert upper["y"] + upper["height"] <= lower["y"] + 1  # a fraction, not "12"
    visitor.see("[aria-label='shapes: draft'] .cv-said", "a window <script>alert(1)</script>")
    caption = "[aria-label='charts: refined answer'] .cv-caption"
    visitor.see(f"{caption} del", "dark window")
    visitor.see(f"{caption} ins", "red door")
    assert visitor.page.locator(f"{caption} .cv-unseen").first.bounding_box()["width"] <= 1

    visitor.see(".cv-evidence", "shapes: a door")
    expected = pytest.approx([0.4, 0.55, 0.2, 0.45], abs=0.01)
    thumbnail = ["#shown-pictures img", "#shown-pictures .cv-boxes rect"]
    assert visitor.page.evaluate(PLACE, thumbnail) == expected
    visitor.page.click("#shown-pictures [data-zoom]")
    visitor.see("dialog.cv-large text", "a door")
    assert visitor.page.evaluate(PLACE, ["dialog.cv-large img", "dialog.cv-large rect"]) == expected
    visitor.page.keyboard.press("Escape")

    if pages.AXE.is_file():
        visitor.page.evaluate("for (const part of document.querySelectorAll('.cv-raw')) part.open = true")
        visitor.page.add_style_tag(content="* { transition: none !important }")
        for dark in (False, True):
            visitor.page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", dark)
            assert pages.violations_of(visitor) == []
    visitor.context.close()
    assert visitor.complaints == []
