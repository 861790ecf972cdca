"""Everything that a report shows about one run, as values: accuracies, comparisons, flips and costs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from colm_vl import ConfigError, strategies
from colm_vl.types import MemberInfo

from ..costs import CallId, CallTimes, Journal, pareto
from ..durations import RunTime, TimeTally
from ..run_folder import Evaluation
from ..statistics import PairedComparison, compare
from ..tables import results_as_json
from ..types import Rule
from .skipping import Skipping, skipping
from .strategy import StrategySummary, Tally


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, with its strategies from the simplest to the most expensive. `rule` applies to every figure except those
    that name another rule."""

    label: str
    benchmark: str
    title: str
    split: str
    items: int
    rule: Rule
    members: tuple[str, ...]
    strategies: tuple[StrategySummary, ...]
    comparisons: tuple[PairedComparison, ...]
    skipping: Skipping
    time: RunTime

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self.strategies[0].results)

    @property
    def unscored(self) -> int:
        """How many questions have no gold answer."""
        return self.strategies[0].results[self.rule].unscored

    @property
    def front(self) -> tuple[str, ...]:
        """The strategies on the Pareto front of tokens per question and accuracy, cheapest first."""
        return tuple(point.name for point in pareto([one.point for one in self.strategies]))

    @property
    def partial_credit(self) -> bool:
        """Whether an answer can be graded between 0 and 1."""
        return any(grade not in (0, 1) for one in self.strategies for grade in one.grades.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers must know to compare these figures with published ones."""
        return tuple(
            dict.fromkeys(note for one in self.strategies for results in one.results.values() for note in results.notes)
        )


def summarize(
    evaluation: Evaluation, rule: Rule = Rule.STRICT, elsewhere: Mapping[CallId, float] | None = None
) -> RunSummary:
    """Score a run under every rule of its benchmark, and `rule` in detail.

    `elsewhere` holds the seconds of calls that other runs made and this one reused.
    """
    times = CallTimes(dict(elsewhere or {}), Journal(evaluation.folder))
    tallies = {name: Tally(evaluation, rule) for name in sorted(evaluation.traces, key=rank)}
    durations = TimeTally()
    members: dict[str, MemberInfo] = {}
    for traces in evaluation.by_question():
        known = times.with_calls_of(traces.values())
        durations.add(traces, known)
        for name, trace in traces.items():
            tallies[name].add(trace, known)
            members |= {member.name: member for member in trace.members}
    found = tuple(tally.summary(name) for name, tally in tallies.items())
    return RunSummary(
        label=evaluation.label,
        benchmark=evaluation.benchmark.name,
        title=evaluation.benchmark.title,
        split=evaluation.split,
        items=len(evaluation.items),
        rule=rule,
        members=tuple(map(_described, members.values())),
        strategies=found,
        comparisons=tuple(compare({one.name: one.grades for one in found})),
        skipping=skipping(evaluation),
        time=durations.total(list(tallies)),
    )


def rank(strategy: str) -> tuple[int, str]:
    """Baselines come first. The name may also be that of a variant in an ablation, which comes last."""
    try:
        return strategies.find(strategy).rank, strategy
    except ConfigError:
        return sys.maxsize, strategy


def _described(member: MemberInfo) -> str:
    return f"{member.role} {member.name}: {member.model}" + (f" ({member.specialty})" if member.specialty else "")


def as_json(run: RunSummary) -> dict[str, Any]:
    return {
        "label": run.label,
        "benchmark": run.benchmark,
        "split": run.split,
        "items": run.items,
        "unscored": run.unscored,
        "rule": run.rule.value,
        "members": list(run.members),
        "strategies": [
            {
                "name": one.name,
                "accuracy": one.accuracy,
                "interval": asdict(one.interval),
                "failed": one.failed,
                "degraded": one.degraded,
                "rules": {rule.value: results_as_json(results) for rule, results in one.results.items()},
                "flips": [
                    asdict(row) | {"corrected_rate": row.corrected_rate, "regressed_rate": row.regressed_rate}
                    for row in one.flips
                ],
                "oracle": asdict(one.oracle),
                "cost": asdict(one.cost) | {"tokens": one.cost.tokens, "total_seconds": one.cost.total_seconds},
            }
            for one in run.strategies
        ],
        "comparisons": [asdict(pair) for pair in run.comparisons],
        "pareto_front": list(run.front),
        "time": asdict(run.time),
        "notes": list(run.notes),
    }
