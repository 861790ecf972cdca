"""What a metric is: a function from a reply and a gold answer to a grade from 0 to 1, with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold answer of a question: every accepted text, or with `choices`, the letter of the correct one. `number`:
    it was given as a number."""

    accepted: tuple[str, ...]
    choices: tuple[str, ...] = ()
    number: bool = False


@dataclass(frozen=True, slots=True)
class GradingMetric:
    """`grade` returns a value from 0 to 1. `note` describes the metric in one line, `source` is where its rule is
    defined."""

    grade: Callable[[str, Gold], float]
    note: str
    source: str = ""


def any_accepted(gold: Gold, matches: Callable[[str], bool]) -> float:
    return float(any(map(matches, gold.accepted)))


def best(grades: Iterable[float]) -> float:
    return max(grades, default=0.0)
