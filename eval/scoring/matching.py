"""Parsers for letters (VLMEvalKit, MMLU-Pro), yes or no (MME), phrases (OCRBench) and numbers (GSM8K).

Sources, re-implemented from their rules: open-compass/VLMEvalKit, commit e8e78f05, `vlmeval/utils/matching_util.py`,
without the optional judge model (multiple choice); BradyFU/Awesome-Multimodal-Large-Language-Models, commit dd29509,
`tools/eval_tool.zip` (MME); Yuliang-Liu/MultimodalOCR, commit 794c36d, `OCRBench/example.py`; TIGER-AI-Lab/MMLU-Pro,
commit f418b11, `compute_accuracy.py`; openai/grade-school-math, commit 3101c7d, `grade_school_math/dataset.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..types import NOTHING, ParsedAnswer, letters

PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
MMLU_PRO_SENTENCE = "sentence"
"""The name of MMLU-Pro's first rule."""

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NONE_OF_THEM = "Z"
_FAILED_CALL = "Failed to obtain answer via API"
_TAIL = 4
# Case-insensitive: "the answer is a dog" is choice A. Only the letters A to D are searched for.
_SAID = re.compile(r"(?i)answer\s+is\s+\**([a-d])")
_MMLU_PRO_SAID = re.compile(r"answer is \(?([A-J])")
# A lookahead, so that both labels in "answer: Answer: B" are found.
_MMLU_PRO_LABEL = re.compile(r"(?=[aA]nswer:\s*([A-J]))")
_MMLU_PRO_LETTER = re.compile(r"\b[A-J]\b")
_GSM8K = re.compile(r"#### (-?[0-9.,]+)")


def parse_option(reply: str, options: Sequence[str]) -> ParsedAnswer:
    """VLMEvalKit: the only letter that occurs as a word, if it first occurs among the last four words; else the letter
    after the first "answer is"; else the only option whose text occurs, in replies of at most twice the length of all
    options.

    A refusal in the toolkit's list, or the word Z without any letter, matches no option. The message of a failed call
    is only searched for the options' texts. Options without text are skipped. The rules of the four words and of the
    sentence were added in August 2025 and June 2026, after most published figures.
    """
    if _FAILED_CALL in reply:
        return _by_content(reply.lower(), [str(option).lower() for option in options])
    named = [letter for letter, option in zip(letters(len(options)), options, strict=True) if option]
    words = reply.translate(PUNCTUATION).split()
    alone = [letter for letter in named if letter in words]
    if any(refusal in reply for refusal in _REFUSALS) or (not alone and _NONE_OF_THEM in words):
        return NOTHING
    if len(alone) == 1 and words.index(alone[0]) >= len(words) - _TAIL:
        return ParsedAnswer(alone[0], "letter")
    said = _SAID.search(reply)
    if said and said.group(1).upper() in named:
        return ParsedAnswer(said.group(1).upper(), "sentence")
    return _by_content(reply.lower(), [str(option).lower() for option in options])


def _by_content(reply: str, options: Sequence[str]) -> ParsedAnswer:
    if len(reply) > 2 * sum(map(len, options)):
        return NOTHING
    found = [letter for letter, text in zip(letters(len(options)), options, strict=True) if text and text in reply]
    return ParsedAnswer(found[0], "content") if len(found) == 1 else NOTHING


def parse_yes_no(reply: str) -> ParsedAnswer:
    """MME: yes or no in the first four characters, in any case; yes is tried first."""
    head = reply.lower()[:4]
    for word in ("yes", "no"):
        if word in head:
            return ParsedAnswer(word, "opening")
    return NOTHING


def lone_yes_no(text: str) -> ParsedAnswer:
    """Yes or no, if it is a word of the text and the other one is not."""
    found = {"yes", "no"} & set(text.lower().split())
    return ParsedAnswer(found.pop(), "word") if len(found) == 1 else NOTHING


def parse_mmlu_pro(reply: str) -> ParsedAnswer:
    """MMLU-Pro: the first "answer is X", else the last "answer: X" of the first line that has one, else the last letter
    from A to J that is a word. Bold marks, which `evaluate_from_api.py` removes from replies, are kept."""
    said = _MMLU_PRO_SAID.search(reply)
    if said:
        return ParsedAnswer(said.group(1), MMLU_PRO_SENTENCE)
    labels = list(_MMLU_PRO_LABEL.finditer(reply))
    if labels:
        line_end = reply.find("\n", labels[0].start())
        of_line = [label for label in labels if line_end < 0 or label.start() < line_end]
        return ParsedAnswer(of_line[-1].group(1), "label")
    named = _MMLU_PRO_LETTER.findall(reply)
    return ParsedAnswer(named[-1], "last letter") if named else NOTHING


def parse_gsm8k(reply: str) -> ParsedAnswer:
    """GSM8K: the first number after `#### `, without commas. It must be spelled as in the gold answer."""
    found = _GSM8K.search(reply)
    number = found.group(1).replace(",", "") if found else ""
    return ParsedAnswer(number, "####") if number else NOTHING


def contains_accepted_text(reply: str, gold: Sequence[str], *, formula: bool) -> bool:
    """OCRBench: whether an accepted text occurs in the reply. Formulas are compared with case and without spaces."""
    if formula:
        bare = _one_line(reply).replace(" ", "")
        return any(_one_line(text).replace(" ", "") in bare for text in gold)
    lowered = _one_line(reply.lower())
    return any(_one_line(text.lower()) in lowered for text in gold)


def _one_line(text: str) -> str:
    return text.strip().replace("\n", " ")
