from __future__ import annotations

import pytest

from colm_vl import Trace
from demos import account, draw
from demos.board import Board, calls_avoided
from tests.teams import FIVE, FOUR, GUIDANCE, scripted

EVIL = "Caption: <img src=x onerror=alert(1)>\nAnswer: <script>alert(1)</script> ${a} {{b}}\nConfidence: 50"


def ask(question: str = "How many dots?", **policy: object) -> tuple[Board, Trace]:
    """A board that saw all events, and the trace that came last."""
    with scripted({"one": [FOUR, FIVE], "two": [FIVE]}, [GUIDANCE], **policy) as colm:
        board = Board.begin(colm.team, colm.team.policy.strategy, question)
        for event in colm.stream(question):
            board.take(event)
    assert board.trace is not None
    return board, board.trace


def test_text_leaves_no_markup_and_no_template() -> None:
    drawn = draw.text('<b a="1">&\'${x} {{y}}\u202e\x07')
    assert not set("<>\"'${}\u202e\x07") & set(drawn)


def test_nothing_of_a_reply_is_markup() -> None:
    with scripted({"one": [EVIL]}, [EVIL]) as colm:
        trace = colm.ask("<u>How many?</u>")
    board = Board.from_trace(trace, ['data:image/png;base64,"><script>'])
    html = draw.answer(board) + draw.columns(board) + account.account(trace)
    html += account.comparison(account.compared([trace]), "<i>")
    for tag in ("<img src=x", "<script", "<u>", "<i>", "${", "{{"):
        assert tag not in html


def test_a_change_is_a_correction_only_where_the_right_answer_is_known() -> None:
    board, _ = ask()
    refinement = board.refinements[1, "one"]
    assert board.mark(refinement) == "changed"
    board.truth = "5"
    assert board.mark(refinement) == "corrected"
    assert board.mark(board.refinements[1, "two"]) == "kept"
    assert "it was 4" in draw.columns(board)


def test_a_trace_is_drawn_as_it_was_when_it_happened() -> None:
    board, trace = ask(rounds=2)
    again = Board.from_trace(Trace.from_dict(trace.to_dict()))
    assert draw.columns(again) == draw.columns(board)
    assert draw.answer(again) == draw.answer(board)


@pytest.mark.parametrize(
    "strategy", ["colm", "concat", "solo:two", "server", "vote", "self_consistency", "verdict", "moa"]
)
def test_every_strategy_can_be_drawn_at_every_moment(strategy: str) -> None:
    with scripted({"one": [FOUR], "two": [FIVE]}, [FIVE]) as colm:
        board = Board.begin(colm.team, strategy, "How many dots?")
        for event in colm.stream("How many dots?", strategy=strategy):
            board.take(event)
            assert draw.answer(board)
            assert draw.columns(board)
    assert "cv-busy" not in draw.answer(board) + draw.columns(board)
    assert board.trace is not None
    assert "5" in draw.answer(board) or "4" in draw.answer(board)


def test_a_stopped_board_shows_what_there_was_and_nothing_busy() -> None:
    with scripted({"one": [FOUR], "two": [FIVE]}, [GUIDANCE]) as colm:
        board = Board.begin(colm.team, "colm", "How many dots?")
        for event in colm.stream("How many dots?"):
            board.take(event)
            if board.drafts:
                break
    board.stop()
    assert "Stopped" in draw.answer(board)
    assert "cv-busy" not in draw.columns(board)


def test_failures_stand_in_their_column_and_beside_the_answer() -> None:
    refused = {"error": "refused", "text": "no key <b>"}
    with scripted({"one": [refused], "two": [FIVE]}, [GUIDANCE]) as colm:
        board = Board.from_trace(colm.ask("How many dots?"))
    assert "no key &lt;b&gt;" in draw.columns(board)
    assert "one failed" in draw.answer(board)


def test_avoided_calls_are_counted() -> None:
    with scripted({"one": [FIVE], "two": [FIVE], "three": [FIVE]}, [GUIDANCE], gate="disagreement") as colm:
        trace = colm.ask("How many dots?")
    assert calls_avoided(trace) == {"agreed": 4}
    assert "4 avoided" in account.account(trace)
    assert "The server was not asked" in draw.columns(Board.from_trace(trace))


def test_a_strategy_that_shares_drafts_is_charged_for_their_time() -> None:
    slow = {"text": FIVE, "delay": 0.1}
    with scripted({"one": [slow], "two": [slow]}, [GUIDANCE]) as colm:
        rows = account.compared(colm.compare("How many dots?", ["solo:one", "vote", "colm"]))
    assert all(row.seconds >= 0.1 for row in rows)
    table = account.comparison(rows, "5")
    assert "1 of 1 single models answered right" in table
    assert "the team&#x27;s answer is right" in table
