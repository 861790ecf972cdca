"""The right answer and the choices of an example are cleared when the visitor asks another question."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest

from colm_vl import Settlement, Team, Trace
from demos import examples
from demos.examples import Example
from demos.history import Entry
from demos.inputs import Settings
from tests.teams import FIVE, scripted

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
from demos.ask_layout import _example_button  # noqa: E402
from demos.ask_tab import AskTab  # noqa: E402
from demos.service import Service  # noqa: E402
from demos.start import start  # noqa: E402
from demos.waiting import WaitingLine  # noqa: E402

WHITE = PIL.Image.new("RGB", (64, 64), "white")
FAILS = "Why is there no answer?"
EXAMPLE = Example("Dots", "How many dots?", (WHITE,), "4", ("4", "5"))


class Visitor:
    """The fields of a visitor's page, and the event handlers."""

    def __init__(self, tab: AskTab, folder: Path) -> None:
        self.tab = tab
        self.folder = folder
        self.fields: dict[Any, Any] = {}
        self.request: Any = SimpleNamespace(session_hash="visitor")

    async def click_example(self) -> str:
        self._take(self.tab._fill_in(0)())
        self.fields[self.tab.pictures] = self._uploaded(*EXAMPLE.pictures)
        await self._pictures_changed()  # as gradio tells of pictures that a handler put there
        return await self.ask()

    async def upload(self, *pictures: PIL.Image.Image) -> None:
        self.fields[self.tab.pictures] = self._uploaded(*pictures)
        await self._pictures_changed()

    def type_question(self, text: str, *, seen: bool = True) -> None:
        """`seen`: whether the page reacts before the question is asked."""
        self.fields[self.tab.question] = text
        if seen:
            self._take(self.tab._on_question(text, *self._known()))

    def put(self, *, choices: str, truth: str) -> None:
        self.fields |= {self.tab.choices: choices, self.tab.truth: truth}

    async def ask(self) -> str:
        """The answer that is finally shown."""
        async for updates in self.asking():
            self._take(updates)
        return str(self.fields[self.tab.answer])

    def asking(self) -> AsyncGenerator[dict[Any, Any], None]:
        own = Settings.of(self.tab.service.colm.team)
        settings = (own.strategy, own.asker, own.rounds, own.gate, own.confidence, own.share)
        pictures, question = self.fields.get(self.tab.pictures), self.fields[self.tab.question]
        choices, truth, known = self._known()
        return self.tab._on_ask(pictures, question, choices, *settings, truth, known, self.request)

    async def edit_again(self) -> None:
        self._take(self.tab._on_again(self.fields[self.tab.shown]))
        if self.fields[self.tab.pictures]:
            self.fields[self.tab.pictures] = [(file, None) for file in self.fields[self.tab.pictures]]
        await self._pictures_changed()

    async def follow_up(self, question: str) -> str:
        own = Settings.of(self.tab.service.colm.team)
        settings = (own.strategy, own.asker, own.rounds, own.gate, own.confidence, own.share)
        shown, conversation = self.fields.get(self.tab.shown), self.fields.get(self.tab.conversation)
        async for updates in self.tab._on_follow(question, shown, conversation, *settings, self.request):
            self._take(updates)
        return str(self.fields[self.tab.answer])

    @property
    def choices_and_truth(self) -> tuple[str, str]:
        return self.fields[self.tab.choices], self.fields[self.tab.truth]

    async def _pictures_changed(self) -> None:
        conversation = self.fields.get(self.tab.conversation)
        pictures = self.fields[self.tab.pictures]
        self._take(await self.tab._on_pictures(pictures, *self._known(), conversation, self.request))

    def _known(self) -> tuple[Any, Any, Any]:
        return (
            self.fields.get(self.tab.choices, ""),
            self.fields.get(self.tab.truth, ""),
            self.fields.get(self.tab.known),
        )

    def _take(self, updates: Mapping[Any, Any]) -> None:
        for part, value in updates.items():
            if not isinstance(value, dict):
                self.fields[part] = value
            elif "value" in value:
                self.fields[part] = value["value"]

    def _uploaded(self, *pictures: PIL.Image.Image) -> list[tuple[str, None]]:
        files = [self.folder / f"{number}.png" for number, _ in enumerate(pictures)]
        for file, picture in zip(files, pictures, strict=True):
            picture.save(file)
        return [(str(file), None) for file in files]


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    with scripted({"one": [FIVE, {"when": FAILS, "error": "timed_out"}]}, strategy="vote") as colm, gr.Blocks() as page:
        tab = AskTab(Service(colm, WaitingLine(2, 2)), None, [EXAMPLE])
        with gr.Tab("Ask"):
            tab.lay_out(page)
        yield Visitor(tab, tmp_path)


async def test_an_example_is_marked_by_its_known_answer(visitor: Visitor) -> None:
    assert "wrong: it is 4" in await visitor.click_example()
    assert "wrong: it is 4" in await visitor.ask()  # the same question once more
    assert visitor.choices_and_truth == ("4\n5", "4")


@pytest.mark.parametrize("seen", [True, False])
async def test_a_visitors_question_has_no_known_answer_and_no_choices(visitor: Visitor, seen: bool) -> None:
    await visitor.click_example()
    visitor.type_question("How many squares?", seen=seen)
    answer = await visitor.ask()
    assert "wrong" not in answer
    assert visitor.choices_and_truth == ("", "")
    assert visitor.tab.service.colm.requests("one")[-1].messages[-1].text.count("(A)") == 0  # type: ignore[attr-defined]


async def test_another_picture_has_no_known_answer(visitor: Visitor) -> None:
    await visitor.click_example()
    await visitor.upload(PIL.Image.new("RGB", (64, 64), "red"))
    assert visitor.choices_and_truth == ("", "")
    assert "wrong" not in await visitor.ask()


async def test_the_right_answer_can_be_given_as_a_letter(visitor: Visitor) -> None:
    visitor.type_question("How many dots?")
    visitor.put(choices="4\n5", truth="B")
    assert ">right<" in await visitor.ask()
    visitor.put(choices="4\n5", truth="A")
    assert "wrong: it is 4" in await visitor.ask()


async def test_an_edited_question_has_no_known_answer(visitor: Visitor) -> None:
    await visitor.click_example()
    await visitor.edit_again()
    assert visitor.choices_and_truth == ("4\n5", "4")
    visitor.type_question("How many squares?")
    assert visitor.choices_and_truth == ("", "")


async def test_two_questions_at_once_are_one_question(visitor: Visitor) -> None:
    visitor.type_question("How many dots?")
    first, second = visitor.asking(), visitor.asking()
    await anext(first)
    await anext(second)
    await anext(first)
    refused = await anext(second)
    assert "still being answered" in refused.pop(visitor.tab.errors["settings"])
    assert not refused  # Stop and the view are the first question's
    async for updates in first:
        visitor._take(updates)
    assert "How many dots?" in visitor.fields[visitor.tab.answer]


async def test_fields_filled_after_the_change_are_kept(visitor: Visitor) -> None:
    await visitor.click_example()
    visitor.type_question("How many squares?")
    visitor.put(choices="4\n5", truth="4")
    assert "wrong: it is 4" in await visitor.ask()
    visitor.type_question("How many circles?")
    assert visitor.choices_and_truth == ("4\n5", "")  # choices of one's own stay
    assert "wrong" not in await visitor.ask()


async def test_a_follow_up_has_the_earlier_turns_and_the_same_pictures(visitor: Visitor) -> None:
    await visitor.click_example()
    await visitor.follow_up("Why?")
    answer = await visitor.follow_up("Are you sure?")
    assert "Are you sure?" in answer
    assert "wrong" not in answer  # the right answer was that of the first question
    (request,) = visitor.tab.service.colm.requests("one")[-1:]  # type: ignore[attr-defined]
    assert len(request.messages[-1].images) == 1
    turns = ["user (Picture 1): How many dots?", "(A) 4", "(B) 5", "assistant: (B) 5", "user: Why?", "assistant: 5"]
    assert "\n".join(turns) in request.messages[-1].text
    earlier = visitor.fields[visitor.tab.earlier]
    assert [earlier.index(said) for said in ("How many dots?", "Why?")] == sorted(
        earlier.index(said) for said in ("How many dots?", "Why?")
    )
    shown = visitor.fields[visitor.tab.shown]
    assert len(set(shown.entry.earlier)) == 2
    assert len(shown.entry.trace.images) == 1


async def test_other_pictures_or_a_new_question_begin_a_new_conversation(visitor: Visitor) -> None:
    await visitor.click_example()
    visitor._take(visitor.tab._on_new())
    assert "Ask a question first" in await _error_of_follow_up(visitor)
    await visitor.click_example()
    await visitor.upload(PIL.Image.new("RGB", (64, 64), "red"))
    assert "Ask a question first" in await _error_of_follow_up(visitor)
    await visitor.ask()
    assert visitor.fields[visitor.tab.earlier] == ""
    assert "conversation" not in visitor.tab.service.colm.prompt("one", -1)  # type: ignore[attr-defined]


async def test_a_follow_up_is_edited_and_asked_again_in_its_place(visitor: Visitor) -> None:
    await visitor.click_example()
    await visitor.follow_up("Why?")
    visitor._take(visitor.tab._on_again(visitor.fields[visitor.tab.shown]))
    assert visitor.fields[visitor.tab.followup] == "Why?"
    await visitor.follow_up("Why not 4?")
    turns = visitor.fields[visitor.tab.shown].entry.trace.history
    assert [turn.text for turn in turns] == ["How many dots?\n(A) 4\n(B) 5", "(B) 5"]


async def test_a_follow_up_without_an_answer_is_edited_and_asked_again(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await visitor.click_example()
    await visitor.follow_up(FAILS)
    again = visitor.tab._on_again(visitor.fields[visitor.tab.shown])
    assert again[visitor.tab.followup] == FAILS
    assert again[visitor.tab.followup_part]["visible"]
    monkeypatch.setattr(Team, "is_pocket", True)
    again = visitor.tab._on_again(visitor.fields[visitor.tab.shown])
    assert again[visitor.tab.question] == FAILS  # it takes no follow-ups


async def test_the_page_offers_as_many_rounds_as_the_team_has() -> None:
    with scripted({"one": [FIVE]}, [FIVE], rounds=8) as colm, gr.Blocks() as page:
        tab = AskTab(Service(colm, WaitingLine(2, 2)), None, [])
        with gr.Tab("Ask"):
            tab.lay_out(page)
    assert (tab.rounds.value, tab.rounds.maximum) == (8, 8)


async def test_a_follow_up_that_cannot_be_asked_keeps_the_answer(visitor: Visitor) -> None:
    await visitor.click_example()
    assert "Write a question first" in await _error_of_follow_up(visitor, " ")
    for file in visitor.folder.iterdir():
        file.unlink()
    assert "no longer here" in await _error_of_follow_up(visitor)
    assert "How many dots?" in visitor.fields[visitor.tab.answer]


def test_a_link_opens_only_questions_of_the_same_browser(visitor: Visitor) -> None:
    trace = Trace("Whose?", "vote", settlement=Settlement("amber", method="server"))
    first, second = Entry(trace, id="one"), Entry(replace(trace, question="Why?"), id="two", earlier=("one",))
    stored = [entry.to_dict() for entry in (second, first)]
    visitor._take(visitor.tab._on_link(stored, "one", visitor.request))
    assert visitor.fields[visitor.tab.shown].entry.id == "one"
    assert "Whose?" in visitor.fields[visitor.tab.answer]
    assert 'data-link="one"' in visitor.fields[visitor.tab.link]
    visitor._take(visitor.tab._on_link([], "two", visitor.request))
    assert "this browser does not have" in visitor.fields[visitor.tab.remark]
    assert visitor.fields[visitor.tab.shown].entry.id == "one"


async def test_an_example_of_a_mistake_is_marked_before_and_after_it_is_asked(visitor: Visitor) -> None:
    wrong = replace(EXAMPLE, kind="wrong")
    assert _example_button(0, wrong).value == "Dots: How many dots? · a mistake"
    visitor.tab.examples = [wrong]
    assert "wrong: it is 4" in await visitor.click_example()
    assert "the team answers this question wrongly" in visitor.fields[visitor.tab.remark]
    visitor.type_question("How many squares?")
    await visitor.ask()
    assert visitor.fields[visitor.tab.remark] == ""


def test_the_examples_were_chosen_for_the_weights_of_the_package() -> None:
    assert examples.chosen_for() == examples.weights_digest(), "run: python -m demos.choose_examples"
    kinds = [example.kind for example in examples.pocket_examples()]
    assert {"guided", "agree", "wrong"} == set(kinds)
    assert kinds[0] == "guided"


def test_a_finished_example_is_shown_before_the_first_question() -> None:
    shown, first = start(), examples.pocket_examples()[0]
    assert first.question in shown.answer
    assert ">right<" in shown.answer
    assert "which the pocket team answered before" in shown.remark
    assert "data-phase" not in shown.answer  # no question of the visitor's is finished
    assert shown.columns.count("refined answer") == 6  # a heading and a label for each client


async def _error_of_follow_up(visitor: Visitor, question: str = "Why?") -> str:
    await visitor.follow_up(question)
    return str(visitor.fields[visitor.tab.followup_error])
