"""Everything that a report shows about one run, as values: accuracies, comparisons, flips and costs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from colm_vl import ConfigError, strategies
from colm_vl.types import Trace

from ..client_answers import client_answers, reply_of
from ..costs import CallId, CallTimes, Cost, CostPoint, cost, pareto
from ..durations import RunTime, run_time
from ..flips import Flips, Oracle, flips, oracle
from ..run_folder import Evaluation
from ..scoring.scorer import score
from ..statistics import Interval, PairedComparison, compare, mean_interval
from ..tables import results_as_json
from ..types import Results, Rule
from .skipping import Skipping, skipping


@dataclass(frozen=True, slots=True)
class StrategySummary:
    """One strategy of a run.

    `results` are by rule. `grades` maps each question to the grade of its answer, under the report's rule.
    `failed` counts questions without an answer, which count as wrong; `degraded` those where some call failed.
    """

    name: str
    results: Mapping[Rule, Results]
    grades: Mapping[str, float]
    interval: Interval
    flips: tuple[Flips, ...]
    oracle: Oracle
    cost: Cost
    failed: int
    degraded: int

    @property
    def accuracy(self) -> float:
        return sum(self.grades.values()) / len(self.grades) if self.grades else 0.0

    @property
    def point(self) -> CostPoint:
        """Cost is tokens per question, since strategies of an interrupted run may have answered different numbers of
        questions."""
        return CostPoint(self.name, self.cost.tokens_each, self.accuracy)


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
    names = sorted(evaluation.traces, key=rank)
    every = [trace for traces in evaluation.traces.values() for trace in traces]
    times = CallTimes.of_run(evaluation, elsewhere)
    found = tuple(_strategy(evaluation, name, rule, times) for name in names)
    return RunSummary(
        label=evaluation.label,
        benchmark=evaluation.benchmark.name,
        title=evaluation.benchmark.title,
        split=evaluation.split,
        items=len(evaluation.items),
        rule=rule,
        members=_members(every),
        strategies=found,
        comparisons=tuple(compare({one.name: one.grades for one in found})),
        skipping=skipping(evaluation),
        time=run_time(evaluation, names, times),
    )


def _strategy(evaluation: Evaluation, name: str, rule: Rule, times: CallTimes) -> StrategySummary:
    benchmark, traces = evaluation.benchmark, evaluation.traces[name]
    items = list(evaluation.items.values())
    replies = {trace.id: reply_of(trace) for trace in traces}
    results = {each: score(benchmark, items, replies, each, partial=True) for each in benchmark.rules}
    by_id = {one.id: one for one in results[rule].scores}
    answered = [item for item in items if item.id in by_id]
    grades = benchmark.units(answered, [by_id[item.id] for item in answered])
    answers = client_answers(benchmark, evaluation.items, traces, rule)
    return StrategySummary(
        name=name,
        results=results,
        grades=grades,
        interval=mean_interval(list(grades.values())),
        flips=tuple(flips(answers)),
        oracle=oracle(answers, {key: one.correct for key, one in by_id.items()}),
        cost=cost(traces, times),
        failed=sum(trace.settlement is None for trace in traces),
        degraded=sum(trace.degraded for trace in traces),
    )


def rank(strategy: str) -> tuple[int, str]:
    """Baselines come first. The name may also be that of a variant in an ablation, which comes last."""
    try:
        return strategies.find(strategy).rank, strategy
    except ConfigError:
        return sys.maxsize, strategy


def _members(traces: Sequence[Trace]) -> tuple[str, ...]:
    known = {member.name: member for trace in traces for member in trace.members}
    return tuple(
        f"{member.role} {member.name}: {member.model}" + (f" ({member.specialty})" if member.specialty else "")
        for member in known.values()
    )


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
