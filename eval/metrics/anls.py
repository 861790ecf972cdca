"""Average normalized Levenshtein similarity, the metric of DocVQA and InfographicVQA."""

from __future__ import annotations

from typing_extensions import override

from .base import Gold, GradingMetric, best

_THRESHOLD = 0.5


def _similarity(one: str, other: str) -> float:
    """The distance ignores case and repeated white space; it is divided by the length of the texts as they are."""
    length = max(len(one), len(other))
    return 1 - levenshtein(_tidy(one), _tidy(other)) / length if length else 1.0


def _tidy(text: str) -> str:
    return " ".join(text.lower().split())


def levenshtein(one: str, other: str) -> int:
    """The number of insertions, deletions and substitutions between two texts (Levenshtein 1966)."""
    previous = list(range(len(other) + 1))
    for row, char in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            substituted = previous[column - 1] + (char != wanted)
            current.append(min(previous[column] + 1, current[-1] + 1, substituted))
        previous = current
    return previous[-1]


class Anls(GradingMetric):
    note = "normalized Levenshtein similarity to the nearest accepted answer, 0 below 0.5"
    source = "ST-VQA and DocVQA (arXiv 1907.00490; arXiv 2007.00398)"

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        """The similarity to the nearest accepted answer; 0 below the threshold of 0.5."""
        similarity = best(_similarity(reply, accepted) for accepted in gold.accepted)
        return similarity if similarity >= _THRESHOLD else 0.0


METRIC = Anls
