"""What a report shows about one strategy of a run, added up trace by trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from colm_vl.types import Trace
from colm_vl.viewer.rows import Mark

from ..client_answers import DRAFT, client_answers, reply_of
from ..costs import CallTimes, Cost, CostPoint, cost
from ..flips import FlipCounts, Flips, Oracle, oracle, steps
from ..run_folder import Evaluation
from ..scoring.scorer import score
from ..statistics import Interval, mean_interval
from ..types import Reply, Results, Rule

_GRADED_AT_A_TIME = 32
"""Traces. Grading them one by one would let a judge grade one reply at a time."""


@dataclass(frozen=True, slots=True)
class StrategySummary:
    """One strategy of a run.

    `results` are by rule. `grades` maps each question to the grade of its answer, under the report's rule.
    `marks` maps each question to what happened to it. `failed` counts questions without an answer, which count as
    wrong; `degraded` those where some call failed.
    """

    name: str
    results: Mapping[Rule, Results]
    grades: Mapping[str, float]
    interval: Interval
    flips: tuple[Flips, ...]
    oracle: Oracle
    marks: Mapping[str, Mark]
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


class Tally:
    """Adds up the traces of one strategy. Does not keep them: all those of a large run do not fit into memory."""

    def __init__(self, evaluation: Evaluation, rule: Rule) -> None:
        self._evaluation = evaluation
        self._rule = rule
        self._replies: dict[str, Reply] = {}
        self._ungraded: list[Trace] = []
        self._flips = FlipCounts()
        self._drafts: dict[str, list[bool]] = {}
        self._marks: dict[str, Mark] = {}
        self._cost = Cost()
        self._failed = self._degraded = 0

    def add(self, trace: Trace, times: CallTimes) -> None:
        self._replies[trace.id] = reply_of(trace)
        self._marks[trace.id] = Mark.of(trace)
        self._cost += cost(trace, times)
        self._failed += trace.settlement is None
        self._degraded += trace.degraded
        self._ungraded.append(trace)
        if len(self._ungraded) == _GRADED_AT_A_TIME:
            self._grade_clients()

    def _grade_clients(self) -> None:
        """Grade the clients' answers in the latest traces, and let go of these."""
        evaluation = self._evaluation
        answers = client_answers(evaluation.benchmark, evaluation.items, self._ungraded, self._rule)
        self._ungraded = []
        for answer in answers:
            if answer.round == DRAFT:
                self._drafts.setdefault(answer.item, []).append(answer.correct)
        for step in steps(answers):
            self._flips.add(step)
            if step.flip in ("corrected", "regressed"):
                self._marks[step.item] |= Mark[step.flip.upper()]

    def summary(self, name: str) -> StrategySummary:
        self._grade_clients()
        benchmark, items = self._evaluation.benchmark, list(self._evaluation.items.values())
        results = {each: score(benchmark, items, self._replies, each, partial=True) for each in benchmark.rules}
        by_id = {one.id: one for one in results[self._rule].scores}
        answered = [item for item in items if item.id in by_id]
        grades = benchmark.units(answered, [by_id[item.id] for item in answered])
        return StrategySummary(
            name=name,
            results=results,
            grades=grades,
            interval=mean_interval(list(grades.values())),
            flips=tuple(self._flips.rows()),
            oracle=oracle(self._drafts, {key: one.correct for key, one in by_id.items()}),
            marks=self._marks,
            cost=self._cost,
            failed=self._failed,
            degraded=self._degraded,
        )
