"""VQA accuracy: agreement with ten annotators, after the normalization of the VQA challenge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from typing_extensions import override

from .base import Gold, GradingMetric

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS = 32
"""The script passes a flag in place of a count, and so removes at most this many."""
_ARTICLES = frozenset({"a", "an", "the"})
_DIGITS: Mapping[str, str] = MappingProxyType(
    {
        "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
        "seven": "7", "eight": "8", "nine": "9", "ten": "10",
    }
)  # fmt: skip
_RESTORED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll "
    "somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's "
    "there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've "
    "why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll "
    "you're you've 'ow's'at"
)


def _without_one_apostrophe(word: str) -> Iterator[str]:
    yield from (word[:place] + word[place + 1 :] for place, char in enumerate(word) if char == "'")


_CONTRACTIONS: Mapping[str, str] = MappingProxyType(
    {missing: word for word in _RESTORED.split() for missing in _without_one_apostrophe(word)}
    | {"somebody'd": "somebodyd"}
)


def normalize(answer: str) -> str:
    return spelled(without_marks(answer.replace("\n", " ").replace("\t", " ").strip()))


def spelled(text: str) -> str:
    """In lower case, with digits for number words and apostrophes in contractions, and without articles."""
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def without_marks(text: str) -> str:
    """A mark next to a space is removed; one between letters becomes a space, unless a number has a comma."""
    has_comma = bool(_COMMA_IN_NUMBER.search(text))
    cleaned = text
    for mark in _MARKS:
        removed = has_comma or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if removed else " ")
    return _FULL_STOP.sub("", cleaned, count=_FULL_STOPS)


class VqaAccuracy(GradingMetric):
    note = "the share of ten annotators' agreement with it, three of whom are enough for 1"
    source = "VQA (arXiv 1505.00468); GT-Vision-Lab/VQA, commit a013f00"

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        return agreement(normalize(reply), [normalize(answer) for answer in gold.accepted])


def agreement(answer: str, annotated: Sequence[str]) -> float:
    """The mean over the annotators of min(1, others who gave this answer / 3). Texts are compared as they are."""
    count = annotated.count(answer)
    without, within = min(1, count / 3), min(1, max(0, count - 1) / 3)
    return (within * count + without * (len(annotated) - count)) / len(annotated)


METRIC = VqaAccuracy
