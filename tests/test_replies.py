"""Answers and confidences read from replies."""

from __future__ import annotations

import math

import pytest

from colm_vl.backends.base import Generation, TokenLogprob
from colm_vl.prompts import LABELLED_LINES
from colm_vl.replies import read_draft

CHOICES = ("red", "blue")


def _generation(*tokens: tuple[str, float], letters: dict[str, float] | None = None) -> Generation:
    logged = {letter: math.log(probability) for letter, probability in (letters or {}).items()}
    logprobs = tuple(
        TokenLogprob(token, math.log(probability), logged if token.strip() in logged else None)
        for token, probability in tokens
    )
    return Generation("".join(token for token, _ in tokens), logprobs=logprobs)


def test_under_choices_confidence_is_the_probability_of_the_letter_among_the_letters() -> None:
    reply = _generation(("Answer:", 0.9), (" B", 0.3), ("\nConfidence: 100", 0.9), letters={"A": 0.1, "B": 0.3})
    draft = read_draft("c", reply, CHOICES, LABELLED_LINES)
    assert draft.choice == "B"
    assert draft.confidence.value == pytest.approx(0.75)
    assert draft.confidence.source == "logprobs"


def test_without_the_others_it_is_the_mean_probability_of_the_answer() -> None:
    draft = read_draft("c", _generation(("Answer:", 0.9), (" B", 0.3)), CHOICES, LABELLED_LINES)
    assert draft.confidence.value == pytest.approx(0.3)
    named = _generation(("Answer:", 0.9), (" blue", 0.6), letters={"A": 0.1, "B": 0.3})
    assert read_draft("c", named, CHOICES, LABELLED_LINES).confidence.value == pytest.approx(0.6)


def test_a_letter_within_the_caption_is_not_the_answers() -> None:
    tokens = (("Caption:", 0.9), (" A", 0.2), (" dot\nAnswer:", 0.9), (" B", 0.3))
    draft = read_draft("c", _generation(*tokens, letters={"A": 0.1, "B": 0.3}), CHOICES, LABELLED_LINES)
    assert draft.confidence.value == pytest.approx(0.75)
