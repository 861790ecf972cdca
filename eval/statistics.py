"""Confidence intervals and significance tests for accuracies, computed with scipy and statsmodels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from colm_vl.extras import require

CONFIDENCE = 0.95
RESAMPLES = 10_000
_Z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Strategy `one` compared with strategy `other` on the same items.

    `wins` and `losses` count the items that only `one`, or only `other`, has correct. `difference` is of accuracies.
    `p` is from McNemar's exact test, `p_adjusted` is adjusted by Holm for all comparisons made together.
    """

    one: str
    other: str
    items: int
    wins: int
    losses: int
    difference: float
    interval: Interval
    p: float
    p_adjusted: float


def wilson(correct: int, total: int) -> Interval:
    """The 95 % Wilson score interval of an accuracy (Wilson 1927); 0 to 1 if `total` is 0."""
    if total == 0:
        return Interval(0.0, 1.0)
    found = require("scipy.stats", "eval").binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def mean_interval(grades: Sequence[float]) -> Interval:
    """The 95 % interval of the mean of grades from 0 to 1: Wilson's if all are 0 or 1, else from the normal
    approximation, cut to 0 to 1."""
    if all(grade in (0, 1) for grade in grades):
        return wilson(round(sum(grades)), len(grades))
    if len(grades) == 1:
        return Interval(0.0, 1.0)
    mean = statistics.fmean(grades)
    half = _Z * statistics.stdev(grades) / math.sqrt(len(grades))
    return Interval(max(0.0, mean - half), min(1.0, mean + half))


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p of McNemar's exact test (McNemar 1947)."""
    if wins + losses == 0:
        return 1.0
    return float(require("scipy.stats", "eval").binomtest(wins, wins + losses).pvalue)


def paired_interval(one: Sequence[bool], other: Sequence[bool], *, seed: int = 0) -> Interval:
    """The 95 % percentile bootstrap interval of the difference in accuracy, resampling pairs.

    Each pair contributes +1, 0 or -1, so a resample is one multinomial draw of the three counts. This is exact, and
    fast for any number of items.
    """
    numpy = require("numpy", "eval")
    items = len(one)
    if items == 0:
        return Interval(-1.0, 1.0)
    wins, losses = _discordant(one, other)
    shares = [wins / items, losses / items, (items - wins - losses) / items]
    counts = numpy.random.default_rng(seed).multinomial(items, shares, size=RESAMPLES)
    differences = (counts[:, 0] - counts[:, 1]) / items
    low, high = numpy.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for multiple tests (Holm 1979)."""
    if not ps:
        return []
    multitest = require("statsmodels.stats.multitest", "eval")
    return [float(p) for p in multitest.multipletests(list(ps), method="holm")[1]]


def compare(correct: Mapping[str, Mapping[str, bool]]) -> list[PairedComparison]:
    """Compare every strategy with each one before it, on the items that both answered.

    `correct` maps a strategy to item → whether it is correct. Put baselines first.
    """
    names = list(correct)
    pairs = [(names[later], names[earlier]) for later in range(len(names)) for earlier in range(later)]
    return _adjusted([_pair(one, other, correct) for one, other in pairs])


def against(reference: str, correct: Mapping[str, Mapping[str, bool]]) -> list[PairedComparison]:
    """Compare every other strategy with `reference`."""
    return _adjusted([_pair(one, reference, correct) for one in correct if one != reference])


def _pair(one: str, other: str, correct: Mapping[str, Mapping[str, bool]]) -> PairedComparison:
    shared = [item for item in correct[one] if item in correct[other]]
    ones, others = [correct[one][item] for item in shared], [correct[other][item] for item in shared]
    wins, losses = _discordant(ones, others)
    difference = (wins - losses) / len(shared) if shared else 0.0
    p = mcnemar(wins, losses)
    return PairedComparison(one, other, len(shared), wins, losses, difference, paired_interval(ones, others), p, p)


def _discordant(one: Sequence[bool], other: Sequence[bool]) -> tuple[int, int]:
    """How many items only the first, and only the second, has correct."""
    pairs = list(zip(one, other, strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def _adjusted(pairs: Sequence[PairedComparison]) -> list[PairedComparison]:
    ps = holm([pair.p for pair in pairs])
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, ps, strict=True)]
