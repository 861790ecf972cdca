"""MMMU-Pro's parser, re-implemented from the rules of the official script.

Source: MMMU-Benchmark/MMMU, commit bb0b95a, `mmmu-pro/evaluate.py`. For the 6,920 replies in `mmmu-pro/output/`, it
gives the results stored there, except for random choices. Differences from MMMU: a letter after the last `Answer:`
comes first, a bare letter needs a space after it but none before, and `X.` is also found.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..types import ParsedAnswer, letters
from .mmmu import by_content, last_mentioned, pad

_LABEL = "Answer:"


def parse_choice(reply: str, options: Sequence[str]) -> ParsedAnswer:
    named = letters(len(options))
    _, label, labelled = reply.rpartition(_LABEL)
    if label:
        # Any capital letter of a choice counts, also inside a word: "Answer: Because" is B.
        found = [letter for letter in named if letter in labelled]
        if len(found) == 1:
            return ParsedAnswer(found[0], "label")
    text = pad(reply)
    # Candidates are found with one form and ranked with another: among bare letters, and among letters with a full
    # stop, the one that occurs last as " X " wins, or the first letter if none does.
    for how, form, place in (("bracket", "({})", "({})"), ("letter", "{} ", " {} "), ("letter.", "{}.", " {} ")):
        found = [letter for letter in named if form.format(letter) in text]
        if found:
            return ParsedAnswer(last_mentioned(found, text, place.format), how)
    return by_content(text, options)
