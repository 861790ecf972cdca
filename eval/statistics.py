"""Intervals and tests for shares of right answers, on top of scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from colm_vl.extras import require

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Paired:
    """One strategy against another on the same items.

    `gained` and `lost` count the items that only the one, only the other has right. `difference` is of accuracies.
    `p` is McNemar's exact one, `p_adjusted` Holm's over all comparisons made together.
    """

    one: str
    other: str
    items: int
    gained: int
    lost: int
    difference: float
    interval: Interval
    p: float
    p_adjusted: float


def wilson(right: int, asked: int) -> Interval:
    """The 95 % interval of a share (Wilson 1927). Of nothing asked nothing is known: 0 to 1."""
    if asked == 0:
        return Interval(0.0, 1.0)
    found = require("scipy.stats", "eval").binomtest(right, asked).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test: whether the discordant pairs could be a fair coin's (McNemar 1947)."""
    if gained + lost == 0:
        return 1.0
    return float(require("scipy.stats", "eval").binomtest(gained, gained + lost).pvalue)


def paired_interval(one: Sequence[bool], other: Sequence[bool], *, seed: int = 0) -> Interval:
    """The 95 % percentile bootstrap interval of the difference in accuracy, items resampled in pairs.

    A pair contributes +1, 0 or -1, so that a resample is one multinomial draw of the three counts: exact, and fast for
    any number of items.
    """
    numpy = require("numpy", "eval")
    items = len(one)
    if items == 0:
        return Interval(-1.0, 1.0)
    gained = sum(a and not b for a, b in zip(one, other, strict=True))
    lost = sum(b and not a for a, b in zip(one, other, strict=True))
    shares = [gained / items, lost / items, (items - gained - lost) / items]
    counts = numpy.random.default_rng(seed).multinomial(items, shares, size=RESAMPLES)
    differences = (counts[:, 0] - counts[:, 1]) / items
    low, high = numpy.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for having made all of these tests (Holm 1979)."""
    if not ps:
        return []
    multitest = require("statsmodels.stats.multitest", "eval")
    return [float(p) for p in multitest.multipletests(list(ps), method="holm")[1]]


def compare(right: Mapping[str, Mapping[str, bool]]) -> list[Paired]:
    """Every strategy against every other that stands before it, on the items that both answered.

    `right` maps a strategy to item → right; its order decides which is "the other": put baselines first.
    """
    names = list(right)
    pairs = [(names[later], names[earlier]) for later in range(len(names)) for earlier in range(later)]
    return _adjusted([_pair(one, other, right) for one, other in pairs])


def against(reference: str, right: Mapping[str, Mapping[str, bool]]) -> list[Paired]:
    """Every other strategy against one of them."""
    return _adjusted([_pair(one, reference, right) for one in right if one != reference])


def _pair(one: str, other: str, right: Mapping[str, Mapping[str, bool]]) -> Paired:
    shared = [item for item in right[one] if item in right[other]]
    ones, others = [right[one][item] for item in shared], [right[other][item] for item in shared]
    gained = sum(a and not b for a, b in zip(ones, others, strict=True))
    lost = sum(b and not a for a, b in zip(ones, others, strict=True))
    difference = (gained - lost) / len(shared) if shared else 0.0
    p = mcnemar(gained, lost)
    return Paired(one, other, len(shared), gained, lost, difference, paired_interval(ones, others), p, p)


def _adjusted(pairs: Sequence[Paired]) -> list[Paired]:
    ps = holm([pair.p for pair in pairs])
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, ps, strict=True)]
