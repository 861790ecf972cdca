"""Prompts, and parsing of real replies of small models."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colm_vl import Query, prompts


@pytest.mark.parametrize(
    ("text", "answer", "caption", "confidence"),
    [
        ("Caption: two cats\nAnswer: cats\nConfidence: 80", "cats", "two cats", 0.8),
        ("**Caption:** two cats\n**Answer:** cats\n**Confidence:** 80%", "cats", "two cats", 0.8),
        ("- caption: two\ncats\n- ANSWER : `cats`\n- confidence: 0.8", "cats", "two cats", 0.8),
        ("Answer: dogs\nWait.\nAnswer: cats", "cats", "", None),
        ("Answer:\ncats\nConfidence: high", "cats", "", None),
        ("Final answer: cats", "cats", "", None),
        ("I see two cats. So the answer is cats.", "cats", "", None),
        ("cats", "cats", "", None),
        ("Caption: two cats", "", "two cats", None),
        ("I see\ntwo cats", "", "", None),
        ("Answer: cats\nConfidence: 250", "cats", "", None),
        ("<think>\nAnswer: dogs?\n</think>\nAnswer: cats", "cats", "", None),
        ("<think>Answer: dogs? I should", "", "", None),
        ("I think the answer is dogs.\nAnswer: dogs\n</think>\nCaption: two cats", "", "two cats", None),
        ("Perhaps dogs?</think>cats", "cats", "", None),
        ("Caption: two\nThe answer: cats\nConfidence: 9/10", "cats", "two", 0.9),
        ("The correct answer: cats\nConfidence: 8 out of 10", "cats", "", 0.8),
        ("**Answer**\n\ncats\n\nConfidence: 90/100", "cats", "", 0.9),
        ("### Caption\ntwo\ncats\n### Final answer\n**cats**\nConfidence: 9/0", "cats", "two cats", None),
        ("Caption: two\nAnswer\ncats", "", "two Answer cats", None),
        (f"Answer: cats\nConfidence: 9/{'9' * 5000}", "cats", "", None),  # more digits than int() takes
        ("1. Caption: two cats\n2. Answer: cats", "cats", "two cats", None),
    ],
)
def test_replies_are_read_tolerantly(text: str, answer: str, caption: str, confidence: float | None) -> None:
    read = prompts.LABELLED_LINES.read_answer(text)
    assert (read.answer, read.caption, read.stated_confidence) == (answer, caption, confidence)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Answer: (B)", "B"),
        ("Answer: b", "B"),
        ("Answer: B) blue whale", "B"),
        ("Answer: **B**", "B"),
        ("Answer: blue whale", "B"),
        ("Answer: The answer is (B).", "B"),
        ("Answer: it is the blue whale", "B"),
        ("Answer: (A) or (B)", None),
        ("Answer: (D)", None),
        ("Answer: A fish that I do not know", None),
        ("no idea", None),
    ],
)
def test_choices_are_read_as_letters_or_words(text: str, choice: str | None) -> None:
    read = prompts.LABELLED_LINES.read_answer(text, ("red fox", "blue whale", "cat"))
    assert read.choice == choice
    assert read.answer == ("blue whale" if choice else "")


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_any_reply_can_be_read(text: str, choices: list[str]) -> None:
    read = prompts.LABELLED_LINES.read_answer(text, choices)
    assert read.choice is None or read.answer == choices[ord(read.choice) - ord("A")]
    assert read.stated_confidence is None or 0 <= read.stated_confidence <= 1
    if read.answer_span:
        start, end = read.answer_span
        assert 0 <= start < end <= len(text)
    prompts.LABELLED_LINES.read_guidance(text)
    prompts.read_selection(text, ("near", "far"))


def test_the_answers_place_is_not_the_captions() -> None:
    text = "Caption: 5 dots\nAnswer: 5\nConfidence: 55"
    read = prompts.LABELLED_LINES.read_answer(text)
    assert read.answer_span == (text.index("Answer: 5") + 8, text.index("Answer: 5") + 9)


@pytest.mark.parametrize(
    "text",
    ["near\nfar", "1. near\n2. far", "- **near**: sees well\n- far (charts)", "near, far", "`Near`; FAR."],
)
def test_selections_are_read_from_lists(text: str) -> None:
    assert prompts.read_selection(text, ("far", "mid", "near")).names == ("near", "far")


@given(st.lists(st.text(alphabet="0123456789abcdef[]\n endbgi", max_size=200), min_size=1, max_size=4))
def test_no_text_contains_its_own_boundary(texts: list[str]) -> None:
    boundary = prompts.draw_boundary(*texts)
    assert not any(boundary in text for text in texts)
    assert boundary == prompts.draw_boundary(*texts)


def test_a_boundary_is_drawn_for_what_is_shown() -> None:
    """Not for what stood there before a thought was taken out: "[end 12<think></think>34ab]" holds no mark as it is."""
    shown, written = "Answer: cats", "<think>dogs?</think>Answer: cats"
    query = Query("Which?")
    for text, mark in (
        (prompts.refine_messages((), "", query, written)[-1].text, prompts.draw_boundary(shown)),
        (prompts.guidance_messages(query, {"near": written})[-1].text, prompts.draw_boundary("near", shown)),
        (prompts.peers_messages((), "", query, {"near": written})[-1].text, prompts.draw_boundary("near", shown)),
    ):
        assert f"[end {mark}]" in text


@pytest.mark.parametrize(
    "text",
    [f"answer is{100_000 * ' '}x", 15_000 * "answer ", 10_000 * "answer is ", 50_000 * "a\n", 100_000 * "-"],
    ids=["spaces", "answers", "sentences", "lines", "dashes"],
)
def test_a_huge_reply_is_read_in_a_moment(text: str) -> None:
    begun = time.process_time()
    prompts.LABELLED_LINES.read_answer(text)
    prompts.LABELLED_LINES.read_answer(text, ("red", "blue"))
    prompts.LABELLED_LINES.read_guidance(text)
    prompts.read_selection(text, ("near", "far"))
    assert time.process_time() - begun < 10


def test_guidance_can_say_that_the_drafts_are_right() -> None:
    said = "Evidence: five dots\nDisagreement: none\nCheck: the drafts are right"
    read = prompts.LABELLED_LINES.read_guidance(said)
    assert (read.evidence, read.disagreement, read.check) == ("five dots", "none", "the drafts are right")
    assert "the drafts are right" in prompts.guidance_messages(Query("How many?"), {"near": said})[1].text
    assert "Keep your answer" in prompts.refine_messages((), "", Query("How many?"), said)[-1].text


def test_what_a_model_thinks_is_not_shown_to_others() -> None:
    said = "<think>perhaps dogs</think>Answer: cats"
    assert "perhaps" not in prompts.guidance_messages(Query("Which?"), {"near": said})[1].text


def test_a_reply_in_the_asked_form_is_read_as_its_letter_where_choices_are_letters() -> None:
    choices = ("D", "F", "A", "B")
    for letter, text in zip("ABCD", choices, strict=True):
        reply = prompts.LABELLED_LINES.read_answer(f"Caption: a diagram\nAnswer: ({letter})\nConfidence: 90", choices)
        assert (reply.choice, reply.answer) == (letter, text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Caption: two\nAnswer: one\n\n- two\nthree\nConfidence: 80", "one\n\n- two\nthree"),
        ("Answer: draft\nAnswer:\nlast\nline", "last\nline"),
        ("Answer: An essay.\nEvidence: a letter\nThe end.\nConfidence: 80", "An essay.\nEvidence: a letter\nThe end."),
        ("<think>Answer: no</think>A story.\n\nThe end.", "A story.\n\nThe end."),
        ("## Answer\n\nA story.\nConfidence: 9/10", "A story."),
        ('{"caption": "two", "answer": "one", "confidence": 80}', "one"),
    ],
)
def test_a_written_answer_has_all_of_its_lines(text: str, answer: str) -> None:
    assert prompts.written_answer(text) == answer
