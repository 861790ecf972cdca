"""The letter of the choice that the reply settles on."""

from __future__ import annotations

from typing_extensions import override

from colm_vl.errors import InputError

from ..scoring.lenient import parse_choice
from .base import Gold, GradingMetric


class Choice(GradingMetric):
    note = "the reply settles on the correct choice, by its letter or its text"
    source = "rule `lenient`"

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        if not gold.choices:
            raise InputError("metric 'choice' needs questions with choices", hint="choose another one with --metric")
        return float(parse_choice(reply, gold.choices).value in gold.accepted)


METRIC = Choice
