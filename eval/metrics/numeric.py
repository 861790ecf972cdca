"""Relaxed accuracy of ChartQA: a number within 5 % of the gold number, or the same text."""

from __future__ import annotations

from .base import Gold, GradingMetric, any_accepted

_TOLERANCE = 0.05


def grade(reply: str, gold: Gold) -> float:
    return any_accepted(gold, lambda accepted: _close(reply.strip(), accepted.strip()))


def _close(reply: str, accepted: str) -> bool:
    """Percentages are fractions. A gold number of zero has no relative tolerance, and is compared as text."""
    found, wanted = _number(reply), _number(accepted)
    if found is None or not wanted:
        return reply.lower() == accepted.lower()
    return abs(found - wanted) / abs(wanted) <= _TOLERANCE


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


METRIC = GradingMetric(
    grade,
    "relaxed accuracy: a number within 5 % of the gold number, or the same text in any case",
    "ChartQA (arXiv 2203.10244, section 5.1; google-research/pix2struct, metrics.py)",
)
