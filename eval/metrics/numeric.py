"""A number within a tolerance of the gold number, or the same text: by default, the relaxed accuracy of ChartQA."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite

from pydantic import Field
from typing_extensions import override

from .base import Gold, GradingMetric, any_accepted

_CHARTQA = 0.05


class Numeric(GradingMetric):
    """A number that is within either tolerance is correct. If neither is set, 5 % of the gold number are tolerated."""

    note = "relaxed accuracy: a number within 5 % of the gold number, or the same text in any case"
    source = "ChartQA (arXiv 2203.10244, section 5.1; google-research/pix2struct, metrics.py)"

    relative: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="tolerated share of the gold number, such as 0.01"
    )
    absolute: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="tolerated difference, in percentage points if the gold number is a percentage",
    )

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        return any_accepted(gold, lambda accepted: self._close(reply.strip(), accepted.strip()))

    def _close(self, reply: str, accepted: str) -> bool:
        """Percentages are fractions. A gold number of zero has no relative tolerance, and is compared as text."""
        found, wanted = _number(reply), _number(accepted)
        if found is not None and wanted is not None and self._tolerated(found, wanted, 100 if "%" in accepted else 1):
            return True
        return (found is None or not wanted) and reply.lower() == accepted.lower()

    def _tolerated(self, found: float, wanted: float, scale: int) -> bool:
        relative = _CHARTQA if self.relative is None and self.absolute is None else self.relative
        if relative is not None and wanted and abs(found - wanted) / abs(wanted) <= relative:
            return True
        if self.absolute is None or not (isfinite(found) and isfinite(wanted)):
            return False
        # In decimals, since 1.1 - 1.0 is more than 0.1 in binary floating point.
        return scale * abs(_decimal(found) - _decimal(wanted)) <= _decimal(self.absolute)


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))


METRIC = Numeric
