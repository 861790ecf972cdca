"""MMMU-Pro's reader, re-implemented from the rules of the official script.

Source: MMMU-Benchmark/MMMU, commit bb0b95a, `mmmu-pro/evaluate.py`; what it makes of the 6,920 replies in
`mmmu-pro/output/` is, but for draws, what is stored there. It differs from MMMU's: a letter after the last `Answer:`
comes first, a bare letter needs a space after it but none before, and `X.` is read too.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..items import Reading, letters
from .mmmu import by_content, last_mentioned, pad

_LABEL = "Answer:"


def read_choice(reply: str, options: Sequence[str]) -> Reading:
    named = letters(len(options))
    _, label, labelled = reply.rpartition(_LABEL)
    if label:
        # Any capital that is a choice counts, within a word too: "Answer: Because" is B.
        found = [letter for letter in named if letter in labelled]
        if len(found) == 1:
            return Reading(found[0], "label")
    text = pad(reply)
    # What finds the candidates and what tells them apart are not the same: of bare letters and of letters with a full
    # stop, the one last seen as " X " wins, and the first letter where none is.
    for how, form, place in (("bracket", "({})", "({})"), ("letter", "{} ", " {} "), ("letter.", "{}.", " {} ")):
        found = [letter for letter in named if form.format(letter) in text]
        if found:
            return Reading(last_mentioned(found, text, place.format), how)
    return by_content(text, options)
