"""The Batch tab in a real browser: files of questions, and the viewer of their answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Served

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-browser")
from .test_browser import AXE, PATIENCE, Visitor, browser, sync_api, violations_of

__all__ = ["browser"]  # a fixture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(280),
    pytest.mark.skipif(
        not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
        reason="Chromium is not installed: make install-chromium",
    ),
]
PICTURE = ROOT / "docs/examples/house.png"


def start(visitor: Visitor, file: Path, estimate: str) -> None:
    visitor.page.get_by_role("tab", name="Batch").click()
    visitor.page.set_input_files("#batch-file input[type=file]", file)
    visitor.see("#batch-estimate", estimate)
    visitor.page.click("#batch-start")


def parquet(file: Path) -> Path:
    """Three questions with right answers, one of them with the bytes of a picture, as `datasets` writes it."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'colm-vl[eval]'")
    from pyarrow import parquet as files

    image = {"bytes": PICTURE.read_bytes(), "path": "house.png"}
    rows = [
        {"id": "amber", "question": "Whose is amber?", "image": image, "answer": "amber"},
        {"id": "violet", "question": "Whose is violet?", "image": None, "answer": "red <b>"},
        {"id": "bar", "question": "Which bar of bicycles is highest?", "image": None, "answer": "July"},
    ]
    files.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


def test_the_answers_of_a_parquet_file_can_be_looked_through(browser: Any, served: Served, tmp_path: Path) -> None:
    visitor = Visitor(browser, served.url)
    page = visitor.page
    start(visitor, parquet(tmp_path / "rows.parquet"), "3 questions, 3 with a right answer")
    visitor.see("#batch-progress", "2 of 3 right: 67% (95 % interval 21% to 94%)")
    visitor.see("#batch-view .v-status", "3 of 3 questions")

    page.click("#batch-view .v-corrected")  # July, after guidance
    visitor.see("#batch-view .v-status", "1 of 3 questions")
    page.click("#batch-view .v-head")
    opened = visitor.see("#batch-view .v-story", "Guidance")
    for words in ("the bar over Jul is highest.", "corrected, before: August", "Vote: July", "a bar chart, July is"):
        sync_api.expect(opened).to_contain_text(words)
    found = violations_of(visitor) if AXE.is_file() else []

    page.click("text=Clear filters")
    page.click("#batch-view .v-wrong")
    page.click("#batch-view .v-head")
    visitor.see("#batch-view .v-facts", "red <b>")
    page.click("text=Clear filters")
    page.fill("#batch-view input[type=search]", "whose is amber")
    page.click("#batch-view .v-head")
    picture = visitor.see("#batch-view .v-pictures img")
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 100
    assert "#" not in page.url
    if AXE.is_file():
        page.add_style_tag(content="* { transition: none !important }")
        page.evaluate("document.body.classList.add('dark')")
        found += violations_of(visitor, "color-contrast")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visitor.context.close()
    assert found == []
    assert visitor.complaints == []


def test_answers_of_a_tsv_file_are_marked_and_those_without_gold_are_not(
    browser: Any, served: Served, tmp_path: Path
) -> None:
    visitor = Visitor(browser, served.url)
    gold, plain = tmp_path / "gold.tsv", tmp_path / "plain.tsv"
    gold.write_text("id\tquestion\tanswer\nq1\tWhose is amber?\tamber\nq2\tWhose is violet?\tred\n")
    plain.write_text("id\tquestion\nq1\tWhose is amber?\n")
    start(visitor, gold, "2 questions, 2 with a right answer")
    visitor.see("#batch-progress", "1 of 2 right: 50% (95 % interval 9% to 91%)")
    visitor.see("#batch-view .v-line:has-text('q2')", "wrong")
    visitor.page.click("#batch-file [aria-label=Clear]")
    start(visitor, plain, "1 questions; at most")
    visitor.see("#batch-view .v-status", "1 of 1 questions")
    visitor.see("#batch-view .v-line", "amber")
    sync_api.expect(visitor.page.locator("#batch-view .v-right")).to_have_count(0, timeout=PATIENCE)
    visitor.context.close()
    assert visitor.complaints == []


def test_a_batch_is_found_and_continued_after_a_reload_but_not_by_others(
    browser: Any, served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.csv"
    file.write_text("id,question\nq1,Whose is amber?\nq2,Whose is violet?\nq3,Take your time\n")
    visitor, other = Visitor(browser, served.url), Visitor(browser, served.url)
    start(visitor, file, "3 questions; at most")
    visitor.see("#batch-progress .cv-busy", "2 of 3 answered")
    visitor.open()
    visitor.complaints.clear()  # Gradio reports the stream that the reload has cut off
    visitor.page.get_by_role("tab", name="Batch").click()
    visitor.see("#batch-progress", "Stopped: 2 of 3 answered")
    visitor.see("#batch-view .v-status", "2 of 2 questions")
    visitor.page.click("#batch-continue")
    visitor.see("#batch-progress .cv-busy", "2 of 3 answered")
    second = visitor.context.new_page()
    second.goto(served.url, wait_until="domcontentloaded")
    second.get_by_role("tab", name="Batch").click()
    sync_api.expect(second.locator("#batch-progress .cv-busy")).to_contain_text("2 of 3 answered", timeout=PATIENCE)
    assert second.is_disabled("#batch-start")
    second.click("#batch-stop")
    sync_api.expect(second.locator("#batch-progress")).to_contain_text("Stopped: 2 of 3 answered", timeout=PATIENCE)
    second.close()
    visitor.see("#batch-progress", "Stopped: 2 of 3 answered")
    sync_api.expect(visitor.page.locator("#batch-continue")).to_be_enabled(timeout=PATIENCE)

    other.open()
    other.page.get_by_role("tab", name="Batch").click()
    other.see("#batch-progress", "Ask many questions at once.")
    assert not other.page.is_visible("#batch-continue")
    for one in (visitor, other):
        one.context.close()
        assert one.complaints == []
