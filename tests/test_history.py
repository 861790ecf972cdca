"""Questions with earlier turns of a conversation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from colm_vl import EarlierTurn, Query, Trace
from colm_vl.prompts import draft_messages, guidance_messages
from processors.images import Image
from tests.teams import FIVE, FOUR, GUIDANCE, scripted

HISTORY = (
    EarlierTurn("system", "Be brief."),
    EarlierTurn("user", "What is this?", images=1),
    EarlierTurn("assistant", "A card with dots."),
)


@pytest.fixture
def followed(dots: Query) -> Query:
    return replace(dots, images=(*dots.images, *dots.images), history=HISTORY)


def test_every_member_gets_the_earlier_turns_and_their_pictures(followed: Query) -> None:
    for messages in (draft_messages(followed), guidance_messages(followed, {"eyes": FIVE})):
        prompt = messages[-1]
        assert len(prompt.images) == 2
        turns = ["system: Be brief.", "user (Picture 1): What is this?", "assistant: A card with dots."]
        lines = prompt.text.splitlines()
        first = lines.index(turns[0])
        assert lines[first : first + 3] == turns
        assert lines[first - 1].startswith("[begin ")
        assert lines[first + 3].startswith("[end ")
        assert "\n\nQuestion: How many dots are there?\n" in prompt.text
        assert prompt.parts[0] == "Picture 1:"


def test_a_question_without_earlier_turns_is_asked_as_before(dots: Query) -> None:
    assert "conversation" not in draft_messages(dots)[-1].text
    assert draft_messages(dots)[-1].parts[0] is dots.images[0]


def test_pictures_of_earlier_turns_are_shared_as_the_policy_says(followed: Query) -> None:
    with scripted({"eyes": [FIVE], "charts": [FOUR]}, [GUIDANCE], share="captions") as colm:
        trace = colm.ask(followed)
        assert trace.history == HISTORY
        assert len(trace.images) == 2
        assert not colm.requests("server")[0].images
        assert "What is this?" in colm.prompt("server")
        assert len(colm.requests("eyes")[0].images) == 2
    assert Trace.from_dict(trace.to_dict()) == trace


def test_a_batch_keeps_the_earlier_turns_and_asks_again_if_they_change(followed: Query, tmp_path: Path) -> None:
    with scripted({"eyes": [FIVE]}, strategy="solo") as colm:
        for query in (followed, followed, replace(followed, history=HISTORY[1:])):
            (trace,) = colm.batch([query], tmp_path / "run")
            assert trace.history == query.history
        assert len(colm.requests("eyes")) == 2


def test_a_lone_picture_of_an_earlier_turn_is_named(dots: Query, dots_png: bytes) -> None:
    query = Query("And its colour?", (Image.open(dots_png),), history=HISTORY)
    assert draft_messages(query)[-1].parts[0] == "Picture 1:"
