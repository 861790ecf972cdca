"""The readers of benchmarks that are answered by a letter, by yes or no, by a phrase or by a number.

Sources: VLMEvalKit's exact matching, without its optional judge model (multiple choice); MME's own calculation (yes and
no); OCRBench's example script (phrases); MMLU-Pro's `compute_accuracy.py`; openai/grade-school-math (numbers).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.items import NOTHING, Reading, letters

PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_MMLU_PRO_SENTENCE = re.compile(r"answer is \(?([A-J])\)?")
_MMLU_PRO_LABEL = re.compile(r".*[aA]nswer:\s*([A-J])")
_MMLU_PRO_LAST = re.compile(r"[A-J](?=[^A-J]*$)")
_GSM8K = re.compile(r"#### (-?[0-9.,]+)")


def read_option(reply: str, options: Sequence[str]) -> Reading:
    """VLMEvalKit: the only letter that stands as a word of its own; else the only option whose text occurs, in replies
    no longer than twice all options together."""
    named = letters(len(options))
    words = reply.translate(PUNCTUATION).split()
    alone = [letter for letter in named if letter in words]
    if len(alone) == 1:
        return Reading(alone[0], "letter")
    texts = [str(option).lower() for option in options]
    lowered = reply.lower()
    if len(lowered) > 2 * sum(map(len, texts)):
        return NOTHING
    found = [letter for letter, text in zip(named, texts, strict=True) if text in lowered]
    return Reading(found[0], "content") if len(found) == 1 else NOTHING


def read_yes_no(reply: str) -> Reading:
    """MME: yes or no within the first four characters, in lower case; yes comes first."""
    head = reply.lower()[:4]
    for word in ("yes", "no"):
        if word in head:
            return Reading(word, "opening")
    return NOTHING


def read_mmlu_pro(reply: str) -> Reading:
    """MMLU-Pro: the first "answer is X", else the last "answer: X" of the first line that has one, else the last
    capital from A to J."""
    for how, pattern in (
        ("sentence", _MMLU_PRO_SENTENCE),
        ("label", _MMLU_PRO_LABEL),
        ("last capital", _MMLU_PRO_LAST),
    ):
        found = pattern.search(reply)
        if found:
            return Reading(found.group(found.lastindex or 0), how)
    return NOTHING


def read_gsm8k(reply: str) -> Reading:
    """GSM8K: the first number after `#### `, its commas dropped; the text of the number must be the same as gold's."""
    found = _GSM8K.search(reply)
    return Reading(found.group(1).replace(",", ""), "####") if found else NOTHING


def right_phrase(reply: str, gold: Sequence[str], *, formula: bool) -> bool:
    """OCRBench: an accepted text occurs in the reply; formulas are compared with their case, without spaces."""
    if formula:
        bare = _one_line(reply).replace(" ", "")
        return any(_one_line(text).replace(" ", "") in bare for text in gold)
    lowered = _one_line(reply.lower())
    return any(_one_line(text.lower()) in lowered for text in gold)


def _one_line(text: str) -> str:
    return text.strip().replace("\n", " ")
