"""F1 of the words that reply and gold answer share, as in SQuAD."""

from __future__ import annotations

import re
import string
from collections import Counter

from typing_extensions import override

from .base import Gold, GradingMetric, best

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _f1(reply: list[str], gold: list[str]) -> float:
    if not reply or not gold:
        return float(reply == gold)
    shared = (Counter(reply) & Counter(gold)).total()
    return 2 * shared / (len(reply) + len(gold))


class F1(GradingMetric):
    note = "F1 of the words shared with the nearest accepted answer, without case, articles and punctuation"
    source = "SQuAD 2.0 (arXiv 1806.03822, official evaluation script)"

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        return best(_f1(_words(reply), _words(accepted)) for accepted in gold.accepted)


METRIC = F1
