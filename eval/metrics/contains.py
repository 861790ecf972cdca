"""Whether an accepted answer occurs in the reply, as in OCRBench."""

from __future__ import annotations

from typing_extensions import override

from ..scoring.matching import contains_accepted_text
from .base import Gold, GradingMetric


class Contains(GradingMetric):
    note = "an accepted answer occurs in the reply, in any case"
    source = "OCRBench (Yuliang-Liu/MultimodalOCR, commit 794c36d)"

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        return float(contains_accepted_text(reply, gold.accepted, formula=False))


METRIC = Contains
