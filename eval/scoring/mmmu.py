"""MMMU's parser and matching rules, re-implemented from the official scripts.

Source: MMMU-Benchmark/MMMU, commit bb0b95a, `eval/` (multiple choice and open answers). Steps in docstrings are those
of the scripts. Their oddities are kept, because published figures depend on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ..types import NOTHING, ParsedAnswer, letters

DRAW_SEED = 42
MARKS_IN_ORDER = ",.!?;:'"

_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_WITH_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_PLAIN = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")


def parse_choice(reply: str, options: Sequence[str]) -> ParsedAnswer:
    """The letter in a reply: in brackets, else bare, else by the option's text; the last one if there are several.

    `B)`, `b`, `**B**`, `B. blue` and `B` before a line break are not found. The article in "A man …" is choice A.
    """
    text = pad(reply)
    named = letters(len(options))
    for how, form in (("bracket", "({})"), ("letter", " {} ")):
        found = [letter for letter in named if form.format(letter) in text]
        if found:
            return ParsedAnswer(last_mentioned(found, text, form.format), how)
    return by_content(text, options)


def pad(reply: str) -> str:
    """Step 1: strip each mark from both ends, once and in this order; keep white space; add a space on both sides."""
    for mark in MARKS_IN_ORDER:
        reply = reply.strip(mark)
    return f" {reply} "


def last_mentioned(found: Sequence[str], text: str, form: Callable[[str], str]) -> str:
    """Step 5: the candidate whose last occurrence starts last; the first letter in a tie."""
    return max(found, key=lambda letter: text.rfind(form(letter)))


def by_content(text: str, options: Sequence[str]) -> ParsedAnswer:
    """Step 4: in replies of more than five words, the option whose text occurs, in any case; the last of several."""
    if len(text.split()) <= 5:
        return NOTHING
    lowered = text.lower()
    texts = dict(zip(letters(len(options)), (option.lower() for option in options), strict=True))
    found = [letter for letter, option in texts.items() if option in lowered]
    return ParsedAnswer(last_mentioned(found, lowered, texts.__getitem__), "content") if found else NOTHING


def parse_open(reply: str) -> ParsedAnswer:
    """All candidate answers in an open reply: its key phrases, and the numbers in them."""
    parts = _key_phrases(reply)
    numbers = [number for part in parts for number in _numbers(part)]
    predictions = tuple(dict.fromkeys(form for text in (*parts, *numbers) for form in normalize(text)))
    how = "indicator" if len(parts) > 1 or parts[0] != _trimmed(reply) else "whole reply"
    return ParsedAnswer(min(parts, key=len), how, predictions)


def is_correct_open(parsed: ParsedAnswer, gold: Iterable[str]) -> bool:
    """Step 5: a gold text occurs in a candidate, or a gold number equals one."""
    accepted = [form for text in gold for form in normalize(text)]
    return any(_matches(prediction, form) for prediction in parsed.alternatives for form in accepted)


def normalize(text: str) -> list[str | float]:
    """Step 4: a number rounded to two decimals, else lower case. A single character c becomes " c" and "c ", so that it
    does not match inside words."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def _matches(prediction: str | float, gold: str | float) -> bool:
    if isinstance(prediction, str):
        return isinstance(gold, str) and gold in prediction
    return prediction == gold


def _trimmed(reply: str) -> str:
    return reply.strip().strip(".").lower()


def _key_phrases(reply: str) -> list[str]:
    """Steps 1 and 2: from each line, the shortest text after the last occurrence of an indicator; the whole reply if no
    line has one. An equals sign is an indicator in the last line only."""
    whole = _trimmed(reply)
    lines = whole.split("\n")
    parts = [_after_indicator(line, last=index == len(lines) - 1) for index, line in enumerate(lines)]
    return [part for part in parts if part and part not in _TRIVIAL] or [whole]


def _after_indicator(line: str, *, last: bool) -> str:
    shortest = ""
    for indicator in (*_INDICATORS, "=") if last else _INDICATORS:
        if indicator in line:
            tail = line.rpartition(indicator)[2].strip()
            # An empty tail is never the shortest: a later one replaces it.
            if not shortest or len(tail) < len(shortest):
                shortest = tail
    return shortest


def _numbers(text: str) -> list[str]:
    """Step 3: three patterns; one number may match two of them."""
    return [number for pattern in (_WITH_COMMAS, _SCIENTIFIC, _PLAIN) for number in pattern.findall(text)]
