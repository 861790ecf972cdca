from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colm_vl import Confidence, answers
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
        (".5", "0.5"),
        ("$.50", "0.5"),
        ("...cats", "cats"),
    ],
)
def test_answers_that_say_the_same(one: str, other: str) -> None:
    assert answers.same(one, other)
    assert answers.same(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("4", "5"), ("", ""), ("-4", "4"), ("blue", "blue whale"), ("1,5", "15"), (".5", "5")]
)
def test_answers_that_differ(one: str, other: str) -> None:
    assert not answers.same(one, other)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = answers.normalize(text)
    assert answers.normalize(once) == once


def test_a_long_answer_takes_linear_time() -> None:
    assert answers.normalize("the " * 200_000 + "sky") == "sky"
    assert answers.find_choice("the 'a " * 100_000 + "blue", ("red", "blue")) == "B"


def test_majority_wins_and_confidence_breaks_ties() -> None:
    weights = {"Four": 0.2, "5": 0.9, "4": 0.1}
    ballots = [
        Ballot(voter, answer, Confidence(weight, "logprobs"))
        for voter, (answer, weight) in zip("abc", weights.items(), strict=True)
    ]
    counted = answers.vote(ballots)
    assert counted is not None
    assert (counted.winner, counted.votes[counted.winner]) == ("Four", ("a", "c"))
    tied = answers.vote(ballots[:2])
    assert tied is not None
    assert tied.winner == "5"


def test_confidences_of_different_sources_break_no_tie() -> None:
    measured, stated, unknown = Confidence(0.9, "logprobs"), Confidence(0.95, "stated"), Confidence()
    for first, second in ((measured, stated), (stated, measured), (unknown, stated), (unknown, unknown)):
        counted = answers.vote([Ballot("a", "4", first), Ballot("b", "5", second)])
        assert counted is not None
        assert counted.winner == "4"


def test_empty_answers_do_not_vote() -> None:
    assert answers.vote([Ballot("a", ""), Ballot("b", " . ")]) is None


LETTERS = ("D", "F", "A", "B")
NINE = ("thing one", "thing two", "a cat", "blue", "red", "green", "the sky", "an oak", "a stone")


@given(st.lists(st.text(alphabet="ABCDEFGHIJ abcd", min_size=1, max_size=3), min_size=1, max_size=10), st.data())
def test_the_form_that_the_prompt_asks_for_is_a_label_whatever_the_choices_say(
    choices: list[str], data: st.DataObject
) -> None:
    letter = data.draw(st.sampled_from([chr(ord("A") + index) for index in range(len(choices))]))
    for form in (f"({letter})", letter, f"{letter}.", f"**({letter})**", f"The answer is ({letter})."):
        assert answers.find_choice(form, choices) == letter


@pytest.mark.parametrize(
    ("reply", "choices", "letter"),
    [
        ("F", LETTERS, "B"),  # no label of these four, so that it can only be the text
        ("(F)", LETTERS, "B"),
        ("(B) F", LETTERS, "B"),
        ("b", ("a", "c", "b"), "C"),  # small, and the text of a choice
        ("b", ("a", "c"), "B"),
        ("(a) only", ("b only", "(a) only"), "B"),
        ("The answer is B. Option (C) is wrong.", NINE, "B"),
        ("(B). Not (C).", NINE, "B"),
        ("B) and not (C)", NINE, "B"),
        ("(A) or (C)", NINE, None),
        ("A and C", NINE, None),
        ("A, C", NINE, None),
        ("B & C", NINE, None),
        ("B and C are wrong, so D", NINE, None),
        ("B, because C is wrong", NINE, "B"),
        ("B, A dog on a sofa", NINE, "B"),
        ("B and X", NINE, "B"),
        ("A. thing one\nB. thing two", NINE, None),  # the choices once more
        (r"\( \text{G} \)", NINE, "G"),
        (r"\(E\)", NINE, "E"),
        (r"\boxed{\text{B}}", NINE, "B"),
        ("P(A) is what they ask for", NINE, None),
    ],
)
def test_a_label_counts_before_a_text(reply: str, choices: tuple[str, ...], letter: str | None) -> None:
    assert answers.find_choice(reply, choices) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("I cannot tell", None),
        ("I, for one, cannot tell", None),
        ("I, as a language model, think it is thing two", "B"),
        ("I, because it is red, white and blue", "I"),
        ("I, thing nine", "I"),
        ("(I), for one, is right", "I"),
        ("i think it is thing two", "B"),
        ("e.g. thing two", "B"),
        ("i.e. the sky", "G"),
        ("A man on a horse", None),
        ("I", "I"),
        ("(I)", "I"),
        ("I. a stone", "I"),
        ("I is right", "I"),
        ("A because of the sky", "A"),
        ("E: red", "E"),
    ],
)
def test_words_of_one_letter_are_no_labels(reply: str, letter: str | None) -> None:
    assert answers.find_choice(reply, NINE) == letter


@pytest.mark.parametrize(
    "said",
    [
        "I do not know",
        "**I don't know.**",
        "I don’t know the answer to this question",
        "Sorry, I cannot tell from the picture.",
        "It cannot be determined from the image",
        "I'm not sure.",
        "No idea",
    ],
)
def test_an_answer_that_says_only_that_the_model_does_not_know_is_an_abstention(said: str) -> None:
    assert answers.is_abstention(said)


@pytest.mark.parametrize(
    "said",
    ["", "4", "not sure, maybe 4", "unanswerable", "unknown", "I do not know whether it is 4 or 5", "know", "no"],
)
def test_a_guess_and_what_benchmarks_have_as_right_answers_are_no_abstentions(said: str) -> None:
    assert not answers.is_abstention(said)


def test_abstentions_vote_only_where_nobody_answers() -> None:
    ballots = [Ballot("a", "I do not know"), Ballot("b", "I don't know."), Ballot("c", "4")]
    counted = answers.vote(ballots)
    assert counted is not None
    assert dict(counted.votes) == {"4": ("c",)}
    nobody = answers.vote(ballots[:2])
    assert nobody is not None
    assert dict(nobody.votes) == {"I do not know": ("a", "b")}


@pytest.mark.parametrize(
    ("answer", "choices", "place"),
    [
        ("b", ("cat", "dog"), 1),
        ("dog", ("cat", "dog"), 1),
        (1, ("cat", "dog"), 1),
        (1.0, ("cat", "dog"), 1),  # a column of a table that has empty cells, too
        ("1", ("cat", "dog"), 1),
        ("2", ("1", "2", "3"), 1),
        (2, ("1", "2", "3"), 2),
        (7, ("3", "5", "7"), 2),
        ("C", ("cat", "dog"), None),
        (2, ("cat", "dog"), None),
        ("", ("cat", "dog"), None),
        ("²", ("cat", "dog"), None),
        ("4", (), None),
    ],
)
def test_the_correct_choice_is_a_letter_a_text_or_an_index(
    answer: object, choices: tuple[str, ...], place: int | None
) -> None:
    assert answers.correct_choice(answer, choices) == place
