"""Confidence intervals and significance tests for accuracies and mean grades, computed with scipy and statsmodels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
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

    `wins` and `losses` count the items on which `one`, or `other`, has the higher grade. `difference` is of mean
    grades, with its 95 % interval. `p_adjusted` is `p` adjusted by Holm for all comparisons made together.
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


def paired_interval(wins: int, losses: int, items: int, *, seed: int = 0) -> Interval:
    """The 95 % percentile bootstrap interval of a difference in accuracy, resampling pairs.

    Each pair contributes +1, 0 or -1, so a resample is one multinomial draw of the three counts. This is exact, and
    fast for any number of items.
    """
    numpy = require("numpy", "eval")
    if items == 0:
        return Interval(-1.0, 1.0)
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


def mean_difference(differences: Sequence[float]) -> tuple[Interval, float]:
    """The 95 % interval of the mean of paired differences, cut to -1 to 1, and the two-sided p of its difference from 0
    (paired t-test; Miller 2024, arXiv 2411.00640, section 4.2)."""
    if len(differences) < 2:
        return Interval(-1.0, 1.0), 1.0
    if len(set(differences)) == 1:  # the t-test divides by their spread
        return Interval(differences[0], differences[0]), float(differences[0] == 0)
    found = require("scipy.stats", "eval").ttest_1samp(differences, 0.0)
    interval = found.confidence_interval(CONFIDENCE)
    return Interval(max(-1.0, float(interval.low)), min(1.0, float(interval.high))), float(found.pvalue)


def compare(grades: Mapping[str, Mapping[str, float]]) -> list[PairedComparison]:
    """Compare every strategy with each one before it, on the items that both answered.

    `grades` maps a strategy to item → grade. Put baselines first.
    """
    names = list(grades)
    pairs = [(names[later], names[earlier]) for later in range(len(names)) for earlier in range(later)]
    return compare_pairs(pairs, grades)


def against(reference: str, grades: Mapping[str, Mapping[str, float]]) -> list[PairedComparison]:
    """Compare every other strategy with `reference`."""
    return compare_pairs([(one, reference) for one in grades if one != reference], grades)


def compare_pairs(
    pairs: Iterable[tuple[str, str]], grades: Mapping[str, Mapping[str, float]]
) -> list[PairedComparison]:
    """Compare the first of each pair with the second."""
    return _adjusted([_pair(one, other, grades) for one, other in pairs])


def _pair(one: str, other: str, grades: Mapping[str, Mapping[str, float]]) -> PairedComparison:
    """McNemar's test and a bootstrap interval where all grades are 0 or 1, else the paired t-test and its interval."""
    shared = [item for item in grades[one] if item in grades[other]]
    ones, others = [grades[one][item] for item in shared], [grades[other][item] for item in shared]
    differences = [a - b for a, b in zip(ones, others, strict=True)]
    wins, losses = sum(step > 0 for step in differences), sum(step < 0 for step in differences)
    if all(grade in (0, 1) for grade in (*ones, *others)):
        interval, p = paired_interval(wins, losses, len(shared)), mcnemar(wins, losses)
    else:
        interval, p = mean_difference(differences)
    mean = sum(differences) / len(shared) if shared else 0.0
    return PairedComparison(one, other, len(shared), wins, losses, mean, interval, p, p)


def _adjusted(pairs: Sequence[PairedComparison]) -> list[PairedComparison]:
    ps = holm([pair.p for pair in pairs])
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, ps, strict=True)]
