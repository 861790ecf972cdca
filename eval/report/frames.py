"""The report of a run as values and as pandas frames, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colm_vl.extras import require

from ..run_folder import Evaluation
from .pictures import Pictures
from .sections import document
from .summary import RunSummary, as_json, summarize
from .viewer import Shown, shown
from .write import write_document

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class Report:
    """What `colm-vl eval report` shows of a run. `summary` holds its values; each method makes one table of them.

    Accuracies, grades and intervals are from 0 to 1. Rows are in the order of the report, baselines first.
    """

    summary: RunSummary
    questions: Shown

    @classmethod
    def of(cls, evaluation: Evaluation, pictures: Pictures | None = None) -> Report:
        """`pictures` are by default those that the run read, if they are still there."""
        summary = summarize(evaluation)
        return cls(summary, shown(evaluation, summary, pictures or Pictures.of_run(evaluation)))

    @property
    def accuracies(self) -> Mapping[str, float]:
        """The mean grade of each strategy."""
        return {one.name: one.accuracy for one in self.summary.strategies}

    def results(self) -> pandas.DataFrame:
        """One row for each strategy."""
        return _frame(
            {
                "strategy": one.name,
                "accuracy": one.accuracy,
                **asdict(one.interval),
                "questions": len(one.grades),
                "failed": one.failed,
                "degraded": one.degraded,
            }
            for one in self.summary.strategies
        )

    def comparisons(self) -> pandas.DataFrame:
        """One row for each pair of strategies, on the questions that both answered."""
        pairs = (asdict(pair) for pair in self.summary.comparisons)
        return _frame({**{key: pair[key] for key in pair if key != "interval"}, **pair["interval"]} for pair in pairs)

    def groups(self) -> pandas.DataFrame:
        """One row for each strategy and value of a group column."""
        return _frame(
            {
                "strategy": one.name,
                "group": metric.group,
                "name": metric.name,
                "accuracy": metric.accuracy,
                **asdict(metric.interval),
                "questions": metric.total,
            }
            for one in self.summary.strategies
            for metric in one.results[self.summary.rule].metrics
        )

    def flips(self) -> pandas.DataFrame:
        """One row for each strategy, client and round: how refinement changed the client's answers."""
        return _frame({"strategy": one.name, **asdict(row)} for one in self.summary.strategies for row in one.flips)

    def costs(self) -> pandas.DataFrame:
        """One row for each strategy, with totals over its questions, as if it had been run alone."""
        rows = (
            (one.name, {key: value for key, value in asdict(one.cost).items() if key != "seconds"}, one.cost)
            for one in self.summary.strategies
        )
        return _frame({"strategy": name, **counts, "seconds": cost.total_seconds} for name, counts, cost in rows)

    def times(self) -> pandas.DataFrame:
        """One row for each stage and member, with percentiles of its calls and of their parts in seconds."""
        return _flat_frame(asdict(one) for one in self.summary.time.members)

    def latencies(self) -> pandas.DataFrame:
        """One row for each strategy, with percentiles of its questions' durations in seconds, as if it had been run
        alone."""
        return _flat_frame(asdict(one) for one in self.summary.time.strategies)

    def items(self) -> pandas.DataFrame:
        """One row for each strategy and question, with the answer and its grade."""
        return _frame(
            {"strategy": one.name, "id": score.id, "answer": score.value, "grade": score.grade}
            for one in self.summary.strategies
            for score in one.results[self.summary.rule].scores
        )

    def write(self, out: str | Path) -> list[Path]:
        """Write report.md, report.html, report.json and the plots, and return their paths."""
        return write_document(document([self.summary], [self.questions]), Path(out), {"runs": [as_json(self.summary)]})


def _frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    return require("pandas", "eval").DataFrame(list(rows))


def _flat_frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """The columns of nested values are named like `whole_p95`."""
    return require("pandas", "eval").json_normalize(list(rows), sep="_")
