"""Equality with an accepted answer, after normalization or as numbers."""

from __future__ import annotations

from colm_vl.answers import same

from .base import Gold, GradingMetric, any_accepted


def grade(reply: str, gold: Gold) -> float:
    return any_accepted(gold, lambda accepted: same(reply, accepted))


METRIC = GradingMetric(
    grade,
    "equal to an accepted answer, without case, articles, punctuation and thousands separators; number words as digits",
    "colm_vl.answers.same",
)
