"""Models that say that they do not know: what counts instead, and what users are told."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from colm_vl.display import Conversation, summary
from demos import draw
from demos.view import View
from tests.teams import FIVE, FOUR, GUIDANCE, scripted

UNKNOWN = "Caption: a dog\nAnswer: I do not know\nConfidence: 90"
QUESTION = "How many dots are there?"


def test_one_that_answers_outvotes_many_that_do_not_know() -> None:
    with scripted({"near": [UNKNOWN], "far": [UNKNOWN], "dots": [FOUR]}, strategy="vote") as colm:
        trace = colm.ask(QUESTION)
    assert trace.answer == "4"
    assert trace.settlement is not None
    assert trace.settlement.by == ("dots",)
    assert trace.notes == ("near: says that it does not know", "far: says that it does not know")
    assert not trace.degraded


def test_if_nobody_knows_that_is_the_answer() -> None:
    with scripted({"near": [UNKNOWN], "far": [UNKNOWN]}, strategy="vote") as colm:
        trace = colm.ask(QUESTION)
    assert trace.answer == "I do not know"
    assert [draft.confidence.value for draft in trace.drafts] == [0.0, 0.0]


def test_an_asker_that_does_not_know_takes_the_answer_of_the_others() -> None:
    with scripted({"near": [UNKNOWN], "far": [FIVE]}, [GUIDANCE]) as colm:
        trace = colm.ask(QUESTION, asker="near")
    assert (trace.answer, trace.fallback) == ("5", "vote")
    assert "near, which asks, does not know" in " ".join(trace.notes)


def test_a_server_that_does_not_know_leaves_the_answer_to_the_clients() -> None:
    with scripted({"near": [FIVE], "far": [FIVE]}, [UNKNOWN], strategy="verdict") as colm:
        trace = colm.ask(QUESTION)
    assert trace.answer == "5"
    assert "server: says that it does not know" in trace.notes


@pytest.mark.parametrize("gate", ["disagreement", "confidence=0.5"])
def test_clients_that_do_not_know_do_not_save_the_call_of_the_server(gate: str) -> None:
    with scripted({"near": [UNKNOWN, FIVE], "far": [UNKNOWN, FIVE]}, [GUIDANCE], gate=gate) as colm:
        trace = colm.ask(QUESTION)
    assert trace.gates[0].asked
    assert trace.answer == "5"


def test_with_choices_a_reply_that_names_none_is_told_apart_from_an_unreadable_one() -> None:
    with scripted({"near": [UNKNOWN], "far": ["Answer: (A)"], "off": ["?"]}, strategy="vote") as colm:
        trace = colm.ask(QUESTION, choices=["I do not know", "five"])
        assert trace.choice == "A"
        trace = colm.ask(QUESTION, choices=["four", "five"])
    assert trace.choice == "A"
    assert trace.notes == ("near: says that it does not know", "off: no answer could be read from its reply")


def test_terminal_and_page_show_no_confidence_for_it() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    with scripted({"near": [UNKNOWN], "far": [UNKNOWN]}, strategy="vote") as colm, Conversation(console) as shown:
        view = View.begin(colm.team, "vote", QUESTION)
        for event in colm.stream(QUESTION):
            shown.show(event)
            view.take(event)
    assert view.trace is not None
    console.print(summary(view.trace))
    printed, page = console.export_text(), draw.answer(view) + draw.columns(view)
    assert "near: says that it does not know" in printed
    assert "no member answers the question" in printed
    assert "No model answers the question" in page
    assert "near: says that it does not know" in page
    assert "%" not in printed
    assert "cv-confidence" not in page
