"""ScienceQA's readers, re-implemented from the rules of the official script and of LLaVA's variant.

Sources: lupantech/ScienceQA, commit 2cbf831 (evaluation of generated answers); haotian-liu/LLaVA, ScienceQA evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..items import NOTHING, Reading, letters

# The official pattern leaves its last full stop unescaped: any character but a line break stands for it.
_SENTENCE = re.compile(r"The answer is ([A-Z]).")
_LLAVA_LETTERS = "ABCDE"


def read_choice(reply: str, options: Sequence[str]) -> Reading:
    """Exactly one "The answer is X.", X being one of the question's options."""
    found = _SENTENCE.findall(reply)
    if len(found) == 1 and found[0] in letters(len(options)):
        return Reading(found[0], "sentence")
    return NOTHING


def read_choice_llava(reply: str, options: Sequence[str]) -> Reading:
    """A bare letter, or one followed by ". " at the start, or the sentence; nothing is drawn."""
    if reply and reply in tuple(_LLAVA_LETTERS):
        reading = Reading(reply, "bare letter")
    elif reply[:1] in tuple(_LLAVA_LETTERS) and reply[1:3] == ". ":
        reading = Reading(reply[0], "leading letter")
    else:
        return read_choice(reply, options)
    return reading if reading.value in letters(len(options)) else NOTHING
