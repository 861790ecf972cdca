"""Equality with an accepted answer, after normalization or as numbers."""

from __future__ import annotations

from typing_extensions import override

from colm_vl.answers import same

from .base import Gold, GradingMetric, any_accepted


class Exact(GradingMetric):
    note = (
        "equal to an accepted answer, without case, articles, punctuation and thousands separators; "
        "number words as digits"
    )
    source = "colm_vl.answers.same"

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        return any_accepted(gold, lambda accepted: same(reply, accepted))


METRIC = Exact
