from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colm_vl import answers
from colm_vl.answers import Ballot


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Blue Whale.", "blue whale"),
        ("1,250", "1250"),
        ("4.0", "4"),
        ("four", "4"),
        ("**42**", "42"),
        (r"\boxed{7}", "7"),
        ("50 %", "50%"),
        ("Yes.", "yes"),
        ("ＡＢＣ", "abc"),
    ],
)
def test_answers_that_say_the_same(one: str, other: str) -> None:
    assert answers.same(one, other)
    assert answers.same(other, one)


@pytest.mark.parametrize(("one", "other"), [("4", "5"), ("", ""), ("-4", "4"), ("blue", "blue whale"), ("1,5", "15")])
def test_answers_that_differ(one: str, other: str) -> None:
    assert not answers.same(one, other)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = answers.normalize(text)
    assert answers.normalize(once) == once


def test_majority_wins_and_confidence_breaks_ties() -> None:
    ballots = [Ballot("a", "Four", 0.2), Ballot("b", "5", 0.9), Ballot("c", "4", 0.1)]
    counted = answers.vote(ballots)
    assert counted is not None
    assert (counted.winner, counted.votes[counted.winner]) == ("Four", ("a", "c"))
    tied = answers.vote(ballots[:2])
    assert tied is not None
    assert tied.winner == "5"


def test_who_says_nothing_does_not_vote() -> None:
    assert answers.vote([Ballot("a", ""), Ballot("b", " . ")]) is None
