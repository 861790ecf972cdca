"""The lowest threshold whose risk is certified: Learn then Test with a fixed sequence.

Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test", arXiv 2110.01052, Section 3 and Appendix on fixed
sequence testing. The loss of a question is 1 if it is skipped and skipping loses a correct answer, else 0. Since it is
binary, the exact binomial tail is a valid p-value for "the risk is greater than `risk`".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from colm_vl.extras import require

GRID = 100


@dataclass(frozen=True, slots=True)
class Tested:
    """A threshold on the questions that were kept for testing. `p` is the p-value of its risk being too great."""

    threshold: float
    skipped: int
    harms: int
    p: float


def sequence(scores: Sequence[float]) -> Sequence[float]:
    """Thresholds to test, from the most cautious one. `scores` must not be of the questions that are tested."""
    numpy = require("numpy", "eval")
    if not len(scores):
        return ()
    return sorted({float(value) for value in numpy.quantile(scores, numpy.linspace(0, 1, GRID + 1))}, reverse=True)


def passing(
    thresholds: Sequence[float], scores: Sequence[float], harmful: Sequence[bool], risk: float, delta: float
) -> Sequence[Tested]:
    """The thresholds that pass, in order, up to the first that does not.

    With probability at least 1 - `delta`, the true risk of each of them is at most `risk`. Every question counts, also
    one that no threshold skips: give it the score -inf.
    """
    numpy, stats = require("numpy", "eval"), require("scipy.stats", "eval")
    values, bad = numpy.asarray(scores, dtype=float), numpy.asarray(harmful, dtype=bool)
    # Counts of scores at or above each threshold, from the sorted scores.
    every, harmed = (numpy.sort(part) for part in (values, values[bad]))
    skipped = len(every) - numpy.searchsorted(every, thresholds, side="left")
    harms = len(harmed) - numpy.searchsorted(harmed, thresholds, side="left")
    ps = stats.binom.cdf(harms, len(values), risk)
    tested = (
        Tested(threshold, int(n), int(k), float(p))
        for threshold, n, k, p in zip(thresholds, skipped, harms, ps, strict=True)
    )
    return list(takewhile(lambda one: one.p <= delta, tested))


def items_needed(risk: float, delta: float) -> int:
    """The fewest questions with which a threshold can pass, if none of them is harmed."""
    return math.ceil(math.log(delta) / math.log1p(-risk))


def upper_bound(events: int, total: int, delta: float) -> float:
    """The Clopper-Pearson upper bound of a share, with confidence 1 - `delta`; 1 if `total` is 0."""
    if events >= total:
        return 1.0
    return float(require("scipy.stats", "eval").beta.ppf(1 - delta, events + 1, total - events))
