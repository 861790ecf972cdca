"""The page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Served, environment, free_port, wait_until_listening

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(280),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: make install-chromium"),
]
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
_WATCH = """() => {
  window.seen = [];
  const side = document.querySelector("#answer-side");
  new MutationObserver(() => window.seen.push(side.innerText)).observe(side, {childList: true, subtree: true});
}"""
_SLOW = """
import sys, threading, time
from pathlib import Path
from colm_vl import CoLM
from demos import image_qa

port, ready = int(sys.argv[1]), Path(sys.argv[2])
loaded = threading.Event()
with CoLM.from_team() as colm:
    image_qa.launch(colm, "127.0.0.1", port, loaded=loaded)
    while not ready.exists():
        time.sleep(0.1)
    loaded.set()
    threading.Event().wait()
"""
"""The page of the pocket team, whose models count as loaded once a file is there."""
PATIENCE = 60_000
"""Milliseconds: the cores may be busy with other things."""


class Visitor:
    """A visitor with separate cookies and storage. `complaints` are errors on the browser's console, and requests to
    other addresses than the page's own."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.context = browser.new_context(**({"viewport": {"width": 1360, "height": 900}} | context))
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._asked)
        self.open()

    def open(self) -> None:
        self.page.goto(self.url, wait_until="domcontentloaded")
        self.page.wait_for_selector("#question textarea")

    def ask(self, question: str) -> None:
        """Ask, and wait until this question, and no earlier one, is the one that is shown."""
        self.page.fill("#question textarea", question)
        self._start("#ask")
        self.see("#answer .cv-question", question)

    def try_example(self, number: int) -> None:
        """Ask an example, and wait until it is the one that is shown."""
        self._start(f"#example-{number}")

    def _start(self, button: str) -> None:
        self.page.evaluate("document.querySelector('#answer section').dataset.earlier = 'yes'")
        self.page.click(button)
        self.page.wait_for_selector("#answer section:not([data-earlier])")

    def see(self, selector: str, words: str | re.Pattern[str] = "") -> Any:
        """Wait until an element is there, with these words."""
        found = self.page.locator(selector)
        if words:
            sync_api.expect(found).to_contain_text(words, timeout=PATIENCE)
        else:
            found.first.wait_for(state="visible")
        return found

    def see_end(self) -> None:
        self.page.wait_for_selector("#answer [data-phase=done]")

    def _said(self, message: Any) -> None:
        # Gradio aborts its streams when a page is left or reloaded, and the browser says so now and then.
        if message.type == "error" and not message.text.startswith("AbortError"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"request to {request.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def first_visitor(browser: Any, served: Served) -> Iterator[Visitor]:
    visitor = Visitor(browser, served.url)
    yield visitor
    visitor.context.close()


@pytest.fixture
def visitor(first_visitor: Visitor) -> Iterator[Visitor]:
    """Most tests share one visitor, because loading the page takes longest. No test may cause errors on the console or
    requests to other hosts."""
    first_visitor.complaints.clear()
    first_visitor.page.get_by_role("tab", name="Ask").click()
    yield first_visitor
    assert first_visitor.complaints == []


def test_an_empty_question_is_refused(visitor: Visitor) -> None:
    visitor.page.fill("#question textarea", " ")
    visitor.page.click("#ask")
    visitor.see("#question-error", "Write a question first")


def test_an_example_is_answered_stage_by_stage(visitor: Visitor, served: Served) -> None:
    visitor.page.evaluate(_WATCH)
    visitor.try_example(0)
    visitor.see_end()
    seen = visitor.page.evaluate("window.seen")
    stages = (
        "The clients write their drafts",
        "The server reads the drafts",
        "The clients refine their answers",
        "agree",
    )
    begun = next(number for number, moment in enumerate(seen) if stages[0] in moment)  # before, another one is shown
    first = [next(number for number, moment in enumerate(seen[begun:]) if words in moment) for words in stages]
    assert first == sorted(first)
    assert any("thinking" in moment for moment in seen)
    for name in ("shapes", "charts", "photos"):
        visitor.see(f"[aria-label='{name}: draft'] .cv-said")
        visitor.see(f"[aria-label='{name}: refined answer'] .cv-said")
    visitor.see(".cv-guidance", "the bar over Jul is highest")
    visitor.see("#answer .cv-headline", "July")
    visitor.see("#answer", "2 of 3 agree; photos says June right")
    visitor.see("#answer", "1 of 3 changed their answer; a vote of the drafts would have said June")
    visitor.see("[aria-label='shapes'] .cv-story", "August 55 %→July 90 %")
    visitor.see("[aria-label='shapes: draft'] .cv-confidence", "55 % stated")
    visitor.see("[aria-label='charts: draft'] .cv-confidence", "93 % measured")
    visitor.see("#kept", "Right answer: July")
    visitor.see("[aria-label='shapes: refined answer'] [data-mark=corrected]", "before: August")
    visitor.see("[aria-label='charts: refined answer'] [data-mark=kept]")
    assert visitor.page.get_attribute("[aria-label='charts: draft'] [role=meter]", "aria-valuenow") == "93"
    assert visitor.page.locator("#account tbody tr").count() == 7
    assert _trace(visitor)["answer"] == "July"
    visitor.see("#cv-python", "images=")

    visitor.page.click("#compare")
    visitor.see("#comparison", "of 4 single models were right")
    assert visitor.page.locator("#comparison tbody tr").count() >= 7

    visitor.page.fill("#correction textarea", "July")
    visitor.page.click("#thumb-up")
    visitor.see("#thanks", "Thank you")
    record = json.loads(served.feedback.read_text().splitlines()[-1])
    assert (record["thumb"], record["right_answer"], record["trace"]["answer"]) == ("up", "July", "July")


def test_a_visitors_question_is_not_marked_by_the_answer_of_an_example(visitor: Visitor) -> None:
    visitor.try_example(0)
    visitor.see("#answer", "right")
    visitor.see_end()
    visitor.ask("Whose is amber?")
    visitor.see_end()
    visitor.see("#answer .cv-headline", "amber")
    sync_api.expect(visitor.page.locator("#answer")).not_to_contain_text("wrong")


def test_an_invalid_picture_is_reported_beside_the_field(visitor: Visitor, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is no picture")
    visitor.page.set_input_files("#pictures input[type=file]", broken)
    visitor.see("#pictures-error", "broken.png")
    visitor.page.fill("#question textarea", "What is this?")
    visitor.page.click("#ask")
    sync_api.expect(visitor.page.locator("#ask")).to_be_enabled()
    visitor.see("#pictures-error", "broken.png")
    visitor.page.click("#pictures [aria-label=Clear]")
    sync_api.expect(visitor.page.locator("#pictures-error")).not_to_contain_text("broken.png")
    # The browser itself says that it cannot show the file: that is the visitor's file, not the page's fault.
    visitor.complaints.clear()


def test_a_mistake_in_the_choices_is_reported_where_it_can_be_seen(visitor: Visitor) -> None:
    visitor.page.click("#choices-part button")
    visitor.page.fill("#choices textarea", "amber")
    visitor.see("#kept", "(A) amber")
    visitor.page.click("#choices-part button")
    visitor.page.fill("#question textarea", "Whose is amber?")
    visitor.page.click("#ask")
    visitor.see("#choices-error", "expected none or 2")
    visitor.page.click("#choices-part button")
    visitor.page.fill("#choices textarea", "")
    visitor.page.click("#choices-part button")


def test_the_keyboard_asks_breaks_lines_and_stops(visitor: Visitor) -> None:
    visitor.page.fill("#question textarea", "Take your time")
    visitor.page.keyboard.press("Shift+Enter")
    visitor.page.keyboard.type("please")
    assert visitor.page.input_value("#question textarea") == "Take your time\nplease"
    visitor.page.keyboard.press("Enter")
    visitor.see("[aria-label='photos: draft'] .cv-said", "June")
    visitor.page.keyboard.press("Escape")
    visitor.see("#answer", "Stopped")
    sync_api.expect(visitor.page.locator("#ask")).to_be_enabled()


def test_a_picture_is_enlarged_and_the_theme_is_switched(visitor: Visitor) -> None:
    visitor.try_example(0)
    visitor.see_end()
    visitor.page.click("#shown-pictures [data-zoom]")
    large = visitor.see("dialog.cv-large img")
    assert large.bounding_box()["width"] > 700
    visitor.page.keyboard.press("Escape")
    sync_api.expect(visitor.page.locator("dialog.cv-large")).to_be_hidden()
    before = visitor.page.evaluate("document.body.classList.contains('dark')")
    visitor.page.click("[data-theme]")
    assert visitor.page.evaluate("document.body.classList.contains('dark')") is not before
    visitor.page.click("[data-theme]")


def test_a_question_is_edited_and_asked_again_with_its_pictures(visitor: Visitor) -> None:
    visitor.try_example(0)
    visitor.see_end()
    visitor.page.click("#history-part button")
    visitor.see("#history", "In which month")
    first = "getComputedStyle(document.querySelector('#history label'), '::before').backgroundImage"
    assert visitor.page.evaluate(first).startswith('url("data:image/')
    visitor.page.click("#history-part button")
    visitor.page.click("#pictures [aria-label=Clear]")
    visitor.page.fill("#question textarea", "")
    visitor.page.click("#again")
    sync_api.expect(visitor.page.locator("#question textarea")).to_have_value(
        "In which month were the most bicycles rented?", timeout=PATIENCE
    )
    visitor.see("#pictures img")
    visitor.page.click("#pictures [aria-label=Clear]")


def test_a_conversation_about_the_same_picture(visitor: Visitor) -> None:
    visitor.page.evaluate("localStorage.removeItem('colm-vl-questions')")
    visitor.try_example(0)
    visitor.see_end()
    field = visitor.page.locator("#followup textarea")
    sync_api.expect(field).to_have_attribute("placeholder", "Ask a follow-up about the same picture")
    field.fill("Take your time")
    field.press("Enter")
    visitor.see("#answer .cv-question", "Take your time")
    visitor.see("[aria-label='photos: draft'] .cv-said", "June")
    visitor.page.keyboard.press("Escape")
    visitor.see("#answer", "Stopped")
    sync_api.expect(field).to_have_value("Take your time", timeout=PATIENCE)
    field.fill("Whose is amber?")
    field.press("Control+Enter")
    visitor.see("#answer .cv-headline", "amber")
    visitor.see_end()
    visitor.see("#earlier li", "In which month were the most bicycles rented?July")
    visitor.see("#shown-pictures img")
    trace = _trace(visitor)
    assert [turn["images"] for turn in trace["history"]] == [1, 0]
    assert len(trace["images"]) == 1
    visitor.see("#cv-python", "history=(")
    visitor.page.click("#compare")
    visitor.see("#comparison table", "solo:shapes")

    visitor.page.click("#history-part button")  # the conversation is one row
    rows = visitor.page.locator("#history label")
    named = "In which month were the most bicycles r… … Whose is amber? → amber"
    sync_api.expect(rows).to_have_text([named], timeout=PATIENCE)
    visitor.page.click("#history-part button")

    visitor.page.click("#again")
    sync_api.expect(field).to_have_value("Whose is amber?", timeout=PATIENCE)
    visitor.page.click("#new")
    sync_api.expect(visitor.page.locator("#question textarea")).to_have_value("", timeout=PATIENCE)
    sync_api.expect(visitor.page.locator("#question textarea")).to_be_focused()
    sync_api.expect(field).to_have_count(0)
    sync_api.expect(visitor.page.locator("#earlier li")).to_have_count(0)
    sync_api.expect(visitor.page.locator("#pictures img")).to_have_count(0)


def test_an_answer_is_selected_where_the_browser_refuses_the_clipboard(visitor: Visitor) -> None:
    visitor.ask("Whose is amber?")
    visitor.see_end()
    refuse = "Object.defineProperty(navigator, 'clipboard', {value: {writeText: () => Promise.reject()}})"
    visitor.page.evaluate(refuse)
    copy = visitor.page.locator("[data-copy=cv-said]")
    for _ in range(2):
        copy.click()
        sync_api.expect(copy).to_have_text("Selected: press Ctrl-C", timeout=PATIENCE)
    assert visitor.page.evaluate("getSelection().toString()") == "amber"
    sync_api.expect(copy).to_have_text("Copy", timeout=PATIENCE)
    visitor.open()  # with the browser's own clipboard
    visitor.complaints.clear()


def test_a_link_reopens_a_question_of_this_browser(visitor: Visitor, browser: Any) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.ask("Whose is violet?")
    visitor.see_end()
    visitor.page.click("#link button")
    visitor.see("#link", "Copied")
    link = visitor.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{visitor.url}/#q=")
    visitor.page.fill("#followup textarea", "Whose is amber?")
    visitor.page.press("#followup textarea", "Enter")
    visitor.see("#answer .cv-headline", "amber")
    visitor.see_end()
    visitor.page.click("#earlier a")
    visitor.see("#answer .cv-headline", "violet")

    other = visitor.context.new_page()
    other.goto(link, wait_until="domcontentloaded")
    sync_api.expect(other.locator("#answer .cv-headline")).to_contain_text("violet", timeout=PATIENCE)
    other.close()
    stranger = Visitor(browser, link)
    stranger.see("#remark", "this browser does not have")
    assert "violet" not in stranger.page.inner_text("#answer-side")
    stranger.context.close()


def test_the_page_opens_with_a_finished_example_and_tells_that_models_are_loaded(browser: Any, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    port, log = free_port(), tmp_path / "log"
    with log.open("w", encoding="utf-8") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", _SLOW, str(port), str(ready)], cwd=ROOT, stdout=written, stderr=written,
            env=environment(),
        )  # fmt: skip
    wait_until_listening(process, port, log)
    visitor = Visitor(browser, f"http://127.0.0.1:{port}")
    visitor.see("#loading", "The models are being loaded")
    visitor.see("#remark", "which the pocket team answered before")
    visitor.see("#answer .cv-headline")
    assert visitor.page.locator("#columns article").count() == 4
    ready.touch()
    sync_api.expect(visitor.page.locator("#loading")).not_to_contain_text("loaded", timeout=PATIENCE)
    assert visitor.complaints == []
    visitor.context.close()
    process.terminate()
    process.wait(20)


def test_a_failed_client_is_reported_in_its_column(visitor: Visitor) -> None:
    visitor.ask("Break the bicycles")
    visitor.see_end()
    visitor.see("[aria-label='charts: draft'] .cv-failure", "could not be reached")
    visitor.see("[aria-label='shapes: refined answer'] .cv-said", "July")
    visitor.see("#answer .cv-warn", "charts failed")


def test_nothing_that_a_model_writes_becomes_markup(visitor: Visitor) -> None:
    visitor.ask("Inject")
    visitor.see_end()
    visitor.see("[aria-label='shapes: draft'] .cv-said", "<b id=injected>bold</b>")
    visitor.see("[aria-label='shapes: draft'] .cv-caption", "<img src=x onerror=alert(1)> ${alert(2)} {{constructor}}")
    assert visitor.page.locator("#injected").count() == 0


def test_stop_cancels_the_question_and_keeps_finished_replies(visitor: Visitor) -> None:
    visitor.ask("Take your time")
    visitor.see("[aria-label='photos: draft'] .cv-said", "June")
    visitor.page.click("#stop")
    visitor.see("#answer", "Stopped")
    visitor.see("[aria-label='photos: draft'] .cv-said", "June")
    sync_api.expect(visitor.page.locator("#ask")).to_be_enabled()
    visitor.ask("Inject")
    visitor.see_end()


def test_two_visitors_at_once_get_their_own_answers(browser: Any, served: Served, visitor: Visitor) -> None:
    other = Visitor(browser, served.url)
    visitor.ask("Whose is amber?")
    other.ask("Whose is violet?")
    visitor.see_end()
    other.see_end()
    visitor.see("#answer .cv-headline", "amber")
    other.see("#answer .cv-headline", "violet")
    assert "violet" not in visitor.page.inner_text("#answer-side")
    assert "amber" not in other.page.inner_text("#answer-side")
    other.context.close()
    assert other.complaints == []


def test_a_second_tab_keeps_the_questions_of_the_first(visitor: Visitor) -> None:
    visitor.ask("Whose is amber?")
    visitor.see_end()
    other = visitor.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(visitor.url, wait_until="domcontentloaded")
    other.wait_for_selector("#question textarea")
    visitor.ask("Whose is violet?")
    visitor.see_end()
    other.fill("#question textarea", "Inject")
    other.keyboard.press("Enter")
    other.wait_for_selector("#answer [data-phase=done]")
    other.click("#history-part button")
    history = other.locator("#history")
    for question in ("Inject", "Whose is violet?", "Whose is amber?"):
        sync_api.expect(history).to_contain_text(question, timeout=PATIENCE)
    other.get_by_label("Whose is violet? → violet").first.click()
    sync_api.expect(other.locator("#question textarea")).to_have_value("Whose is violet?", timeout=PATIENCE)
    other.close()


def test_a_typed_question_survives_a_reload(visitor: Visitor) -> None:
    visitor.page.fill("#question textarea", "half a question")
    visitor.open()
    sync_api.expect(visitor.page.locator("#question textarea")).to_have_value("half a question", timeout=PATIENCE)
    visitor.complaints.clear()


def test_the_visit_survives_a_reload(visitor: Visitor) -> None:
    visitor.ask("Whose is amber?")
    visitor.see_end()
    visitor.ask("Inject")
    visitor.see("#answer .cv-question", "Inject")
    visitor.see_end()
    assert visitor.complaints == []
    visitor.open()
    visitor.complaints.clear()  # the closed page can report that its connections were cut
    visitor.page.click("#history-part button")
    visitor.see("#history", "Whose is amber? → amber")
    visitor.page.get_by_label("Whose is amber? → amber").first.click()
    visitor.see("#answer .cv-headline", "amber")
    visitor.see("[aria-label='charts: refined answer'] .cv-said", "amber")
    assert _trace(visitor)["question"] == "Whose is amber?"
    visitor.page.click("#forget")
    sync_api.expect(visitor.page.locator("#history label input")).to_have_count(0)


def test_a_batch_is_answered_stopped_and_downloaded(visitor: Visitor, tmp_path: Path) -> None:
    visitor.page.get_by_role("tab", name="Batch").click()
    visitor.page.click("#batch-start")
    visitor.see("#batch-file-error", "Give a file of questions")

    file = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{number}", "question": "Whose is amber?", "answer": "amber"} for number in range(6)]
    file.write_text("\n".join(map(json.dumps, rows)))
    visitor.page.set_input_files("#batch-file input[type=file]", file)
    visitor.see("#batch-file", re.compile(r"questions\s*\.jsonl"))
    visitor.see("#batch-estimate", "6 questions, 6 with a right answer; at most 42 model calls.")
    visitor.page.click("#batch-start")
    visitor.see("#batch-progress", "6 of 6 answered in")
    visitor.see("#batch-progress", "6 of 6 right: 100% (95 % interval 61% to 100%)")
    visitor.page.locator("#batch-progress details summary").first.click()
    visitor.see("#batch-progress details[open]", "charts: amber")
    with visitor.page.expect_download() as download:
        visitor.page.click("#batch-answers")
    answers = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    assert [answer["id"] for answer in answers] == [row["id"] for row in rows]
    assert {answer["answer"] for answer in answers} == {"amber"}

    visitor.page.click("#batch-file [aria-label=Clear]")
    visitor.page.set_input_files("#batch-pictures input[type=file]", ROOT / "docs/examples/house.png")
    visitor.see("#batch-pictures", "house")
    visitor.page.fill("#batch-question textarea", "Take your time")
    visitor.page.click("#batch-start")
    visitor.see("#batch-progress", "0 of 1 answered")
    visitor.page.click("#batch-stop")
    visitor.see("#batch-progress", "Stopped")


def test_a_stopped_batch_goes_on_where_it_stopped(visitor: Visitor, tmp_path: Path) -> None:
    visitor.page.get_by_role("tab", name="Batch").click()
    file = tmp_path / "mixed.csv"
    file.write_text("id,question\nq1,Whose is amber?\nq2,Whose is violet?\nq3,Take your time\n")
    visitor.page.set_input_files("#batch-file input[type=file]", file)
    visitor.see("#batch-estimate", "3 questions; at most 21 model calls.")
    visitor.page.click("#batch-start")
    visitor.see("#batch-progress", "2 of 3 answered")
    visitor.page.click("#batch-stop")
    visitor.see("#batch-progress", "Stopped: 2 of 3 answered")
    visitor.page.click("#batch-start")
    visitor.see("#batch-progress .cv-busy", "2 of 3 answered")
    visitor.page.click("#batch-stop")
    visitor.see("#batch-progress", "Stopped: 2 of 3 answered")
    visitor.page.click("#batch-file [aria-label=Clear]")


def test_strategies_are_compared_without_their_names(visitor: Visitor) -> None:
    visitor.try_example(0)
    visitor.see_end()
    visitor.page.check("#blind input")
    visitor.page.click("#compare")
    blind = visitor.see("#comparison .cv-blind")
    assert "solo" not in blind.inner_text()
    visitor.page.click("text=Show which is which")
    visitor.see("#comparison table", "solo:shapes")
    visitor.page.uncheck("#blind input")


def test_the_page_tells_that_the_server_has_gone(browser: Any, team_file: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "demos.image_qa", "--team", str(team_file), "--port", str(port)]
    with log.open("w") as written:
        process = subprocess.Popen(command, cwd=ROOT, stdout=written, stderr=written, env=environment())
    wait_until_listening(process, port, log)
    visitor = Visitor(browser, f"http://127.0.0.1:{port}")
    visitor.ask("Take your time")
    process.terminate()
    process.wait(20)
    visitor.see("#cv-gone", "The server does not answer. Your question is kept")
    visitor.context.close()


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Any, served: Served) -> None:
    phone = Visitor(browser, served.url, viewport={"width": 360, "height": 740}, has_touch=True)
    below = [phone.page.locator(f"#{part}").bounding_box()["y"] for part in ("ask", "answer", "examples")]
    assert below == sorted(below)
    phone.page.fill("#question textarea", "Take your time")
    phone.page.tap("#ask")
    phone.see("[aria-label='photos: draft'] .cv-said", "June")
    stop = phone.page.locator("#stop").bounding_box()
    assert stop["y"] + stop["height"] <= 740
    assert phone.page.locator("#answer").bounding_box()["y"] < 740 / 2
    phone.page.tap("#stop")
    phone.see("#answer", "Stopped")
    phone.page.tap("#example-3")
    phone.see_end()
    phone.see("#account table")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [phone.page.locator(f"[aria-label='{name}: draft']").bounding_box() for name in ("shapes", "charts")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    phone.context.close()
    assert phone.complaints == []


def test_the_page_works_with_the_keyboard_only(visitor: Visitor) -> None:
    visitor.page.fill("#question textarea", "")
    visitor.page.focus("#question textarea")
    visitor.page.keyboard.type("Whose is violet?")
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.id") == "ask"
    visitor.page.keyboard.press("Enter")
    visitor.see_end()
    visitor.see("#answer .cv-headline", "violet")


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: make test-browser")
def test_axe_finds_no_serious_violation(browser: Any, served: Served) -> None:
    visitor = Visitor(browser, served.url)
    for part in ("#choices-part", "#settings", "#history-part"):
        visitor.page.click(f"{part} button")
    violations = violations_of(visitor)
    visitor.try_example(0)
    visitor.see_end()
    visitor.page.click("#compare")
    visitor.see("#comparison", "single models were right")
    violations += violations_of(visitor)
    visitor.page.evaluate("document.body.classList.add('dark')")
    violations += violations_of(visitor, "color-contrast")
    visitor.page.get_by_role("tab", name="Batch").click()
    visitor.see("#batch-start")
    violations += violations_of(visitor)
    visitor.context.close()
    assert violations == []


def violations_of(visitor: Visitor, *rules: str) -> list[str]:
    """Of all rules that axe knows, or of these."""
    visitor.page.add_style_tag(content="* { transition: none !important }")  # colours are measured where they end
    visitor.page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = visitor.page.evaluate("(options) => axe.run(document, options)", options)["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


def _trace(visitor: Visitor) -> dict[str, Any]:
    """The trace as the visitor downloads it."""
    with visitor.page.expect_download() as download:
        visitor.page.click("text=Download trace")
    trace: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return trace
