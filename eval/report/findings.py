"""Everything that a report says of one run, as values: computed once, written out in several forms."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from colm_vl import ConfigError, strategies
from colm_vl.types import Trace

from ..costs import CallId, Cost, Point, Times, cost, pareto
from ..items import Rule, Table
from ..ledger import Flips, Oracle, flips, oracle
from ..runs import Evaluation
from ..scoring.table import score
from ..show import table_as_json
from ..statistics import Interval, Paired, compare, wilson
from ..traces import reply_of, stands


@dataclass(frozen=True, slots=True)
class StrategyFindings:
    """`tables` are by rule. `failed` questions have no answer and count as wrong, `degraded` ones had some failure."""

    name: str
    tables: Mapping[Rule, Table]
    right: Mapping[str, bool]
    interval: Interval
    flips: tuple[Flips, ...]
    oracle: Oracle
    cost: Cost
    failed: int
    degraded: int

    @property
    def accuracy(self) -> float:
        return sum(self.right.values()) / len(self.right) if self.right else 0.0

    @property
    def point(self) -> Point:
        """In tokens a question: of a run that was stopped, some strategies have answered more questions than others."""
        return Point(self.name, self.cost.tokens_each, self.accuracy)


@dataclass(frozen=True, slots=True)
class Findings:
    label: str
    benchmark: str
    title: str
    split: str
    items: int
    lead: Rule
    members: tuple[str, ...]
    strategies: tuple[StrategyFindings, ...]
    comparisons: tuple[Paired, ...]

    @property
    def front(self) -> tuple[str, ...]:
        """The strategies that no other beats in tokens a question and accuracy at once, cheapest first."""
        return tuple(point.name for point in pareto([one.point for one in self.strategies]))


def findings(
    evaluation: Evaluation, lead: Rule = Rule.STRICT, elsewhere: Mapping[CallId, float] | None = None
) -> Findings:
    """`lead` is the rule under which everything but the table of rules is counted. `elsewhere` are the seconds of calls
    that other runs made and this one re-used."""
    names = sorted(evaluation.traces, key=_rank)
    every = [trace for traces in evaluation.traces.values() for trace in traces]
    times = Times.of_run(evaluation, elsewhere)
    found = tuple(_strategy(evaluation, name, lead, times) for name in names)
    return Findings(
        label=evaluation.label,
        benchmark=evaluation.benchmark.name,
        title=evaluation.benchmark.title,
        split=evaluation.split,
        items=len(evaluation.items),
        lead=lead,
        members=_members(every),
        strategies=found,
        comparisons=tuple(compare({one.name: one.right for one in found})),
    )


def _strategy(evaluation: Evaluation, name: str, lead: Rule, times: Times) -> StrategyFindings:
    benchmark, traces = evaluation.benchmark, evaluation.traces[name]
    items = list(evaluation.items.values())
    replies = {trace.id: reply_of(trace) for trace in traces}
    tables = {rule: score(benchmark, items, replies, rule, partial=True) for rule in benchmark.rules}
    by_id = {one.id: one for one in tables[lead].scores}
    answered = [item for item in items if item.id in by_id]
    right = benchmark.units(answered, [by_id[item.id] for item in answered])
    stood = stands(benchmark, evaluation.items, traces, lead)
    return StrategyFindings(
        name=name,
        tables=tables,
        right=right,
        interval=wilson(sum(right.values()), len(right)),
        flips=tuple(flips(stood)),
        oracle=oracle(stood, {key: one.right for key, one in by_id.items()}),
        cost=cost(traces, times),
        failed=sum(trace.settlement is None for trace in traces),
        degraded=sum(trace.degraded for trace in traces),
    )


def _rank(strategy: str) -> tuple[int, str]:
    """What collaborating is compared with comes first. The name may also be that of a variant in an ablation."""
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


def as_json(found: Findings) -> dict[str, Any]:
    return {
        "label": found.label,
        "benchmark": found.benchmark,
        "split": found.split,
        "items": found.items,
        "rule": found.lead.value,
        "members": list(found.members),
        "strategies": [
            {
                "name": one.name,
                "accuracy": one.accuracy,
                "interval": asdict(one.interval),
                "failed": one.failed,
                "degraded": one.degraded,
                "rules": {rule.value: table_as_json(table) for rule, table in one.tables.items()},
                "flips": [asdict(row) for row in one.flips],
                "oracle": asdict(one.oracle),
                "cost": asdict(one.cost) | {"tokens": one.cost.tokens, "total_seconds": one.cost.total_seconds},
            }
            for one in found.strategies
        ],
        "comparisons": [asdict(pair) for pair in found.comparisons],
        "pareto_front": list(found.front),
    }


__all__ = ["Findings", "StrategyFindings", "as_json", "findings"]
