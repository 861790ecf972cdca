"""The viewer of questions in a real browser."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.report.write import write_report

from .viewed_run import HOSTILE, write_run

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(280),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: make install-chromium"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("viewed")
    write_report([write_run(folder, 1_000)], folder / "report")
    return folder / "report" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS)
def page(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """No test may cause messages on the console, dialogs or requests."""
    width, height = WIDTHS[request.param]
    dark = "dark" if request.param == "phone" else "light"
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=dark, offline=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or complaints.append(asked.url))
    page.goto(report.as_uri())
    yield page
    assert complaints == []
    context.close()


def count(page: Any) -> int:
    return int(page.inner_text(".v-status").split()[0].replace(",", ""))


def test_filters_combine_and_the_address_reopens_them(page: Any, report: Path) -> None:
    page.get_by_role("link", name="Look through 1000 questions").click()
    assert page.evaluate("document.querySelector('.viewer').getBoundingClientRect().top < innerHeight")
    assert count(page) == 1_000
    assert page.locator(".v-list > li").count() == 25
    page.get_by_label("Strategy").select_option("colm")
    page.get_by_role("button", name=re.compile("^Regressed")).click()
    assert count(page) == 100
    page.get_by_label("place").select_option("street")
    assert count(page) == 0
    page.get_by_label("place").select_option("garage")
    page.get_by_label("Search").fill("number 11,")
    assert count(page) == 1
    page.locator(".v-head").click()
    assert page.locator(".v-card.v-is-regressed").count() == 2
    again = page.context.new_page()
    again.goto(page.url)
    assert count(again) == 1
    assert again.locator(".v-head[aria-expanded=true]").inner_text().startswith("Number 11, regressed")
    again.get_by_role("button", name="Clear filters").click()
    assert count(again) == 1_000
    assert again.url == report.as_uri()
    assert again.locator(".v-head[aria-expanded=true]").count() == 0


def test_every_mark_can_be_filtered_by(page: Any) -> None:
    shown = {
        name: page.get_by_role("button", name=re.compile(f"^{name}")).locator(".v-count").inner_text()
        for name in ("Right", "Wrong", "Changed", "Corrected", "Regressed", "Unread", "Failed", "Strategies differ")
    }
    assert {name: int(number.replace(",", "")) for name, number in shown.items()} == {
        "Right": 900,
        "Wrong": 200,
        "Changed": 200,
        "Corrected": 100,
        "Regressed": 100,
        "Unread": 100,
        "Failed": 100,
        "Strategies differ": 100,
    }


def test_a_question_opens_by_keyboard_with_all_that_was_said(page: Any) -> None:
    head = page.locator(".v-head").first
    head.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-expanded") == "true"
    story = page.get_by_role("region", name="colm")
    assert story.locator("h4").all_inner_texts() == ["Drafts", "Guidance", "Refinements"]
    assert "corrected, before: blue" in story.inner_text()
    assert "80 % (stated)" in story.inner_text()
    picture = page.locator(".v-pictures img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.v-pictures img').naturalWidth > 100")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Enter")
    assert page.locator(".v-body:visible").count() == 0


def test_hostile_text_is_shown_as_text(page: Any) -> None:
    page.get_by_label("Search").fill("hostile")
    page.locator(".v-head").first.click()
    assert page.locator(".v-body:visible").inner_text().count(HOSTILE) >= 3
    assert page.locator(".v-body script, .v-body img[onerror], .v-list script").count() == 0


def test_pages_and_filters_are_fast_with_a_thousand_questions(page: Any) -> None:
    page.get_by_role("button", name="Next").click()
    assert "Page 2 of 40" in page.inner_text(".v-pager")
    began = time.monotonic()
    page.get_by_role("button", name=re.compile("^Wrong")).click()
    assert count(page) == 200
    assert time.monotonic() - began < 2  # 20 ms on an idle machine


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make test-browser")
def test_the_viewer_is_accessible(page: Any) -> None:
    page.locator(".v-head").first.click()
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document.querySelector('.viewer'))")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
