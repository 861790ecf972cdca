"""The readers of benchmarks that are answered by a letter, by yes or no, by a phrase or by a number.

Sources, re-implemented from their rules: open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/utils/matching_util.py`,
without the optional judge model (multiple choice); BradyFU/Awesome-Multimodal-Large-Language-Models, commit dd29509,
`tools/eval_tool.zip` (MME); Yuliang-Liu/MultimodalOCR, commit 794c36d, `OCRBench/example.py`; TIGER-AI-Lab/MMLU-Pro,
commit f418b11, `compute_accuracy.py`; openai/grade-school-math, commit 3101c7d, `grade_school_math/dataset.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..items import NOTHING, Reading, letters

PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
MMLU_PRO_SENTENCE = "sentence"
"""How MMLU-Pro's first rule reads."""

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NONE_OF_THEM = "Z"
_FAILED_CALL = "Failed to obtain answer via API"
_TAIL = 4
# A case-insensitive letter: "the answer is a dog" is choice A. Only four letters are looked for.
_SAID = re.compile(r"(?i)answer\s+is\s+\**([a-d])")
_MMLU_PRO_SAID = re.compile(r"answer is \(?([A-J])")
# Nothing is used up, so that of "answer: Answer: B" both are found.
_MMLU_PRO_LABEL = re.compile(r"(?=[aA]nswer:\s*([A-J]))")
_MMLU_PRO_LETTER = re.compile(r"\b[A-J]\b")
_GSM8K = re.compile(r"#### (-?[0-9.,]+)")


def read_option(reply: str, options: Sequence[str]) -> Reading:
    """VLMEvalKit: the only letter that stands as a word of its own, if its first occurrence is among the last four
    words; else the letter after the first "answer is"; else the only option whose text occurs, in replies no longer
    than twice all options together.

    A refusal in the toolkit's list, and the word Z where no letter stands, are read as none of the options; from a call
    that failed no letter is read. Options without a text are passed over. The four
    words and the sentence are younger than most published figures: they came in August 2025 and June 2026.
    """
    if _FAILED_CALL in reply:
        return _by_content(reply.lower(), [str(option).lower() for option in options])
    named = [letter for letter, option in zip(letters(len(options)), options, strict=True) if option]
    words = reply.translate(PUNCTUATION).split()
    alone = [letter for letter in named if letter in words]
    if any(refusal in reply for refusal in _REFUSALS) or (not alone and _NONE_OF_THEM in words):
        return NOTHING
    if len(alone) == 1 and words.index(alone[0]) >= len(words) - _TAIL:
        return Reading(alone[0], "letter")
    said = _SAID.search(reply)
    if said and said.group(1).upper() in named:
        return Reading(said.group(1).upper(), "sentence")
    return _by_content(reply.lower(), [str(option).lower() for option in options])


def _by_content(reply: str, options: Sequence[str]) -> Reading:
    if len(reply) > 2 * sum(map(len, options)):
        return NOTHING
    found = [letter for letter, text in zip(letters(len(options)), options, strict=True) if text and text in reply]
    return Reading(found[0], "content") if len(found) == 1 else NOTHING


def read_yes_no(reply: str) -> Reading:
    """MME: yes or no within the first four characters, in lower case; yes comes first."""
    head = reply.lower()[:4]
    for word in ("yes", "no"):
        if word in head:
            return Reading(word, "opening")
    return NOTHING


def read_mmlu_pro(reply: str) -> Reading:
    """MMLU-Pro: the first "answer is X", else the last "answer: X" of the first line that has one, else the last letter
    from A to J that stands as a word. The bold marks that `evaluate_from_api.py` takes off its replies stay."""
    said = _MMLU_PRO_SAID.search(reply)
    if said:
        return Reading(said.group(1), MMLU_PRO_SENTENCE)
    labels = list(_MMLU_PRO_LABEL.finditer(reply))
    if labels:
        line_end = reply.find("\n", labels[0].start())
        of_line = [label for label in labels if line_end < 0 or label.start() < line_end]
        return Reading(of_line[-1].group(1), "label")
    named = _MMLU_PRO_LETTER.findall(reply)
    return Reading(named[-1], "last letter") if named else NOTHING


def read_gsm8k(reply: str) -> Reading:
    """GSM8K: the first number after `#### `, its commas dropped; the text of the number must be the same as gold's."""
    found = _GSM8K.search(reply)
    number = found.group(1).replace(",", "") if found else ""
    return Reading(number, "####") if number else NOTHING


def right_phrase(reply: str, gold: Sequence[str], *, formula: bool) -> bool:
    """OCRBench: an accepted text occurs in the reply; formulas are compared with their case, without spaces."""
    if formula:
        bare = _one_line(reply).replace(" ", "")
        return any(_one_line(text).replace(" ", "") in bare for text in gold)
    lowered = _one_line(reply.lower())
    return any(_one_line(text.lower()) in lowered for text in gold)


def _one_line(text: str) -> str:
    return text.strip().replace("\n", " ")
