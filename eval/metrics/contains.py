"""Whether an accepted answer occurs in the reply, as in OCRBench."""

from __future__ import annotations

from ..scoring.matching import contains_accepted_text
from .base import Gold, GradingMetric


def grade(reply: str, gold: Gold) -> float:
    return float(contains_accepted_text(reply, gold.accepted, formula=False))


METRIC = GradingMetric(
    grade,
    "an accepted answer occurs in the reply, in any case",
    "OCRBench (Yuliang-Liu/MultimodalOCR, commit 794c36d)",
)
