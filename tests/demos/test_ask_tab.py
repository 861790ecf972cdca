"""The right answer and the choices of an example are cleared when the visitor asks another question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest

from demos.examples import Example
from demos.inputs import Settings
from tests.teams import FIVE, scripted

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install 'colm-vl[demo]'")
from demos.ask_tab import AskTab  # noqa: E402
from demos.service import Service  # noqa: E402
from demos.waiting import WaitingLine  # noqa: E402

WHITE = PIL.Image.new("RGB", (64, 64), "white")
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
        own = Settings.of(self.tab.service.colm.team.policy)
        settings = (own.strategy, own.asker, own.rounds, own.gate, own.confidence, own.share)
        pictures, question = self.fields.get(self.tab.pictures), self.fields[self.tab.question]
        choices, truth, known = self._known()
        asked = self.tab._on_ask(pictures, question, choices, *settings, truth, known, self.request)
        async for updates in asked:
            self._take(updates)
        return str(self.fields[self.tab.answer])

    @property
    def choices_and_truth(self) -> tuple[str, str]:
        return self.fields[self.tab.choices], self.fields[self.tab.truth]

    async def _pictures_changed(self) -> None:
        self._take(await self.tab._on_pictures(self.fields[self.tab.pictures], *self._known()))

    def _known(self) -> tuple[Any, Any, Any]:
        return (
            self.fields.get(self.tab.choices, ""),
            self.fields.get(self.tab.truth, ""),
            self.fields.get(self.tab.known),
        )

    def _take(self, updates: Mapping[Any, Any]) -> None:
        self.fields |= {part: value for part, value in updates.items() if not isinstance(value, dict)}

    def _uploaded(self, *pictures: PIL.Image.Image) -> list[tuple[str, None]]:
        files = [self.folder / f"{number}.png" for number, _ in enumerate(pictures)]
        for file, picture in zip(files, pictures, strict=True):
            picture.save(file)
        return [(str(file), None) for file in files]


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    with scripted({"one": [FIVE]}, strategy="vote") as colm, gr.Blocks() as page:
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


async def test_fields_filled_after_the_change_are_kept(visitor: Visitor) -> None:
    await visitor.click_example()
    visitor.type_question("How many squares?")
    visitor.put(choices="4\n5", truth="4")
    assert "wrong: it is 4" in await visitor.ask()
    visitor.type_question("How many circles?")
    assert visitor.choices_and_truth == ("4\n5", "")  # choices of one's own stay
    assert "wrong" not in await visitor.ask()
