"""ScienceQA's parsers, re-implemented from the official script and from LLaVA's variant.

Sources: lupantech/ScienceQA, commit 2cbf831 (evaluation of generated answers); haotian-liu/LLaVA, ScienceQA evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..types import NOTHING, ParsedAnswer, letters

# The official pattern does not escape its full stop, so it matches any character but a line break.
_SENTENCE = re.compile(r"The answer is ([A-Z]).")
_LLAVA_LETTERS = "ABCDE"


def parse_choice(reply: str, options: Sequence[str]) -> ParsedAnswer:
    """Exactly one "The answer is X.", X being one of the question's options."""
    found = _SENTENCE.findall(reply)
    if len(found) == 1 and found[0] in letters(len(options)):
        return ParsedAnswer(found[0], "sentence")
    return NOTHING


def parse_choice_llava(reply: str, options: Sequence[str]) -> ParsedAnswer:
    """A bare letter, or a letter followed by ". " at the start, or the sentence. There are no random choices."""
    if reply and reply in tuple(_LLAVA_LETTERS):
        parsed = ParsedAnswer(reply, "bare letter")
    elif reply[:1] in tuple(_LLAVA_LETTERS) and reply[1:3] == ". ":
        parsed = ParsedAnswer(reply[0], "leading letter")
    else:
        return parse_choice(reply, options)
    return parsed if parsed.value in letters(len(options)) else NOTHING
